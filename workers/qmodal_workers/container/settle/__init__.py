"""What follows an outcome: settled, tried again, put back, or sent where it can run."""
