"""The process that is the parent of our own server, autoscaler and worker, and ends them with its client."""
