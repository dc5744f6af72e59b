"""The layers a SequenceModel is built of, one family a file; footfall_models.registry finds them by name."""
