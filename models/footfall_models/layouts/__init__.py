"""How the tokens of a batch lie, and what an encoder may do with them there: attend, scan, shift."""
