"""The process that is the parent of our own server and what works with it, and ends them with its client."""
