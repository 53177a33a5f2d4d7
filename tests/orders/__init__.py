"""Orders of events under a seeded scheduler, and faults that they find."""
