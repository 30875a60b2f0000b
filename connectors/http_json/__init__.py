"""Devices that tell their values as JSON over HTTP, read only."""
