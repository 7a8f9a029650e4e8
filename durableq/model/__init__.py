"""Values and pure rules of a message's life: no I/O, no clock, no randomness."""
