"""What the worker, its templates and its containers say to each other, and the processes that they are."""
