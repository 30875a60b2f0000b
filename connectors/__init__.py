"""Adapters that talk to a device, a broker or a database."""
