"""Log files: their formats, presets and times."""
