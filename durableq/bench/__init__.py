"""Measuring: what an operator may expect of a machine, in figures of that machine."""
