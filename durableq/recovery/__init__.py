"""Dead-letter recovery: a pure policy decides, a process applies."""
