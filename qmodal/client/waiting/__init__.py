"""Why calls wait: found from what the leader says and what boxes show, and said once by whoever waits."""
