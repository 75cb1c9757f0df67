"""The leader's picture of the cluster: pools, their apps and the boxes, and its record of each pool."""
