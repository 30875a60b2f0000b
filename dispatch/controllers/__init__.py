"""What is wished for: the plan, checked, chosen and followed, and the rules that need none."""
