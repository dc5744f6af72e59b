"""From an event log to a data set: reading, cleaning, items, splits, report; and a simulated shop."""
