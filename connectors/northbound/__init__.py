"""Servers for a utility, a plant controller or SCADA: an image of the plant, and a door for bounds."""
