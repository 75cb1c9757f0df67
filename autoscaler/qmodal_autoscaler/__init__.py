"""The autoscaler: observes pools, decides how many containers each deserves, assigns them to workers."""
