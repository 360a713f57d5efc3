"""Storage's ends to the world: objects and catalogue."""
