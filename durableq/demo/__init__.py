"""The demonstration: an order book whose orders are sent twice, fail, die and are recovered."""
