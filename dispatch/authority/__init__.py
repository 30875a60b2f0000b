"""Who may command and how far: modes of control, leases, limits, interlocks, requests of people."""
