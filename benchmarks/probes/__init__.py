"""What runs under a system's own Python: each module is a program that measures one thing."""
