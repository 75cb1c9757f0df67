"""What is kept of what has happened: what containers printed, statistics of functions, chores, and leftovers."""
