"""Attention heads: which share a subspace, and which write what another reads."""
