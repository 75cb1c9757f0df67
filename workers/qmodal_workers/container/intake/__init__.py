"""Claiming entries for a container: how many at once, prefetched, and given back if they do not run here."""
