"""Scenarios: each a file for `locust` and a name for `footfall loadtest --scenario`."""
