"""Training: where alignment comes from, and how to watch it arise in a run of one's own."""
