"""From targets to commands on the wire: the gate, the last line before the socket, other masters."""
