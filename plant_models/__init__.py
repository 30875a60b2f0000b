"""Physics of the plant: pure step functions and limits, no I/O and no clock."""
