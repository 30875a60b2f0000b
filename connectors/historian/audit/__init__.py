"""Audit rows that are no longer recent: packed files in a chain, and both places read as one."""
