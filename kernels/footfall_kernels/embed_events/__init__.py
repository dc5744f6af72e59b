"""Sum of the embeddings of an event's parts."""
