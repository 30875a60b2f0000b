"""Records as files: one set for each hour or day, with a manifest."""
