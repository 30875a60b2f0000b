"""The read-only service: it shows, and it never touches a device."""
