"""The autoscaler: observes pools, decides how many containers each has, assigns them to workers."""
