"""Pure rules and records: no I/O, no clock, no random, no waiting."""
