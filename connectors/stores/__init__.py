"""Stores that carry plans from the planner to the edge and the API."""
