"""The supervisor: starts worker processes by exec, watches, replaces and stops them."""
