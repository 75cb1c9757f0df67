"""One module for each command of `qmodal`, or for commands that are read together."""
