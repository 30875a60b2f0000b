"""Finding out what is on the wire: asks by reads alone, one request at a time, few a second."""
