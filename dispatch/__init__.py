"""The edge loop: follows the plan, keeps the limits and survives alone."""
