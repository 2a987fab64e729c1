"""Structures of models: which tensors are which weights, derived from the models themselves."""
