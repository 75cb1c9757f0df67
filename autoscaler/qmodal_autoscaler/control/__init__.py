"""Who decides and when: the election, the leader's loop, and how its decisions are written."""
