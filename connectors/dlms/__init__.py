"""DLMS/COSEM (IEC 62056) over TCP: revenue meters are read, and never written to."""
