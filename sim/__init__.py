"""The harness: a world of plant models, served and driven on a virtual clock."""
