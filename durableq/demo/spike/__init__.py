"""A spike against a downstream that bears little and goes down, with limits and without."""
