"""A weight and the one that reads what it writes."""
