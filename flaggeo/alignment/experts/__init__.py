"""Experts of a mixture, in one layer and from one layer to the next, never paired by their numbers."""
