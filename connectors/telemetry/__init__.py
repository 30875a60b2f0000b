"""Records of the historian, sent to a broker."""
