"""The fleet: worker processes started by exec, watched, replaced when they die, told to stop."""
