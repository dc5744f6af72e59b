"""How good a checkpoint is: ranking, probabilities, baselines."""
