"""From an event log to a checkpoint: simulation, preparation, model, training, evaluation."""
