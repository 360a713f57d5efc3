"""The gateway's ends to the world: database and leaves."""
