"""Commands for what programs keep by name: they show plain values, and never unpickle."""
