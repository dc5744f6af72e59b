"""Attention of new events to a cached past."""
