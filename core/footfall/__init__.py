"""What every part of Footfall shares: contract, events, histories, vocabulary, metrics."""

__version__ = "0.1.0"
