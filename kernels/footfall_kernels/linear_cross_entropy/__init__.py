"""Cross-entropy over a catalogue without its logits in memory."""
