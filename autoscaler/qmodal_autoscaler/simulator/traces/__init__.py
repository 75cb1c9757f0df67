"""Traces: inputs by the moment at which they come, made up or from a file."""
