"""Presets: what to train a family with, one file each, which names the paper it follows."""
