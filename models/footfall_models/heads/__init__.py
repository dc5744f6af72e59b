"""What a model says of a state beside the items, one head a file; footfall_models.registry finds them by name."""
