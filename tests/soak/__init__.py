"""A server under steady load for an hour: whether answers stay right, and what it uses."""
