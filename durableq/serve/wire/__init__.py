"""The protocols: bytes to an action and a dictionary in the shape of the JSON protocol, and back.

Nothing here knows HTTP connections or a store.
"""
