"""Inputs from elsewhere: taken from a folder or asked for, checked, and kept with their time of issue."""
