"""Programs that run under a system's own Python; each measures one thing."""
