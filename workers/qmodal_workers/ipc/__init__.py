"""What the worker, its templates and its containers say to each other, and what ties their processes."""
