"""Whether the geometry of weights says what heads and layers do: a language model without each of them."""
