"""Subspace alignment of neural network weights, read from a checkpoint without running it.

>>> import flaggeo
>>> network = flaggeo.load({"model.layers.0.mlp.down_proj.weight": ...})  # doctest: +SKIP
"""
