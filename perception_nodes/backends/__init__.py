"""Neural-network runtimes. Each is imported when a model first asks for it."""
