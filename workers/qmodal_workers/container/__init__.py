"""A container: the process that runs the inputs of exactly one pool."""
