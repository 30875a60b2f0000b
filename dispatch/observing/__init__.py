"""What is known: readings, witnesses of the grid mode, conditions of the units, counters."""
