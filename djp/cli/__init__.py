"""The `djp` command: a thin client of the gateway."""
