"""Laws of unrelated weights, and of weights with the same outlier channels."""
