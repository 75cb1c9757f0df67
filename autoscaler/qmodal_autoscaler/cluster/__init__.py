"""What the leader sees: pools, their apps and the boxes, and what it remembers of each pool."""
