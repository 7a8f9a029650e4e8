"""The demonstration: orders that are sent twice, fail, die and are recovered."""
