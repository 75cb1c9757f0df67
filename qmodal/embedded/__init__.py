"""A server, an autoscaler and a worker of our own, for programs that have no Redis."""
