"""Shipped sites: a plant is data, not code."""
