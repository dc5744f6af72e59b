"""The `footfall` command: one file a verb."""
