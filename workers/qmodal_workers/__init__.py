"""The worker process of a box, and the containers that it runs."""
