"""History of another historian: read from CSV or by SQL, kept beside our own, and marked."""
