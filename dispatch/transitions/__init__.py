"""From one grid mode to another, step by step, and what the gensets are asked for on the way."""
