"""Flow control: the rules of limits, as pure functions of numbers."""
