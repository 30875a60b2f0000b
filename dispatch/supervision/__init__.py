"""Who decides at all: readiness, the ladder, release, the heartbeat."""
