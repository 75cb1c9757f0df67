"""One module for each command, or for commands that are read together."""
