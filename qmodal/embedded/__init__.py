"""A server, an autoscaler, a worker and a gateway of our own, for programs that have no Redis."""
