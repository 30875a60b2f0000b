"""What sessions with servers of a utility have in common, whatever they speak: asking, keeping, telling."""
