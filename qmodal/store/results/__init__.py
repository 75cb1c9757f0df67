"""What inputs leave for their callers: outcomes, and the items of generators."""
