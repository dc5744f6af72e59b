"""Attention over packed histories: softmax or SiLU, forward and backward."""
