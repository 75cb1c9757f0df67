"""What is kept of what has happened: what containers printed, and statistics of functions."""
