"""A container that runs several inputs at once, or in batches: claimed, started, interrupted and settled side by side."""
