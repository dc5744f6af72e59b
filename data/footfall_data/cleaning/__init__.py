"""Which events of a log are dropped, and why."""
