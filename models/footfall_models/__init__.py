"""Torch modules: how a batch lies, embedding, encoders, heads; no data, no training loop."""
