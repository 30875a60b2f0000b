"""Forecasts of PV, load and price, made only from what was known at issue time."""
