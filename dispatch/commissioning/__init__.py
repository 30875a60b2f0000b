"""Commissioning over the wire: what is read, held against what can be; what is written, by a small safe step.

Nothing here writes. A probe asks the edge, as an engineer does: select, operate, in test.
"""
