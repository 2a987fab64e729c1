"""Two subspaces of one space."""
