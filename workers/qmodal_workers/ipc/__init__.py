"""Messages, shared memory and process handling between a worker, its templates and its containers."""
