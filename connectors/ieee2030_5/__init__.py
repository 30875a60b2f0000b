"""Servers of a utility that speak IEEE 2030.5: they are asked for bounds, and told how the plant does."""
