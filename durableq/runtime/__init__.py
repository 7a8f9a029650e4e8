"""Clocks, signals, logs and waiting: the services of one process."""
