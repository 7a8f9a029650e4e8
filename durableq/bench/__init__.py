"""Measurements of the machine that an operator runs them on."""
