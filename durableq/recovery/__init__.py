"""Dead-letter recovery: policies and rules decide, a process applies their decisions."""
