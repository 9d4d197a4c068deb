"""Asking venues what they would give, and choosing: what the router does for orders and the gateway for quotes."""
