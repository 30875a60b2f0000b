"""What holds whatever is wished for: caps, headroom, gensets in need, feeders, reserve."""
