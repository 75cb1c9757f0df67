"""How a container process comes to be: planned, then forked from a template or started afresh."""
