"""What was measured, decided, sent and refused."""
