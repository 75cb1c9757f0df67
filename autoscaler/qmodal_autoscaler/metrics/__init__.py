"""What a scrape of the autoscaler shows: of a leader the whole cluster, and the statistics of all functions."""
