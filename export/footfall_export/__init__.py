"""From a checkpoint to a version: engines, their parity report, the model repository."""
