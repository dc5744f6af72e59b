"""The best items of a whole catalogue."""
