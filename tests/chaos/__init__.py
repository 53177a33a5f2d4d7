"""Faults under load: what becomes of good requests while something else goes wrong."""
