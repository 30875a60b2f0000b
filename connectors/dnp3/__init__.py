"""DNP3 (IEEE 1815) over TCP: outstations are polled, and their outputs operated."""
