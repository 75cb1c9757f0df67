"""What each process may do to the server: its role as a user of Redis, and the rule for that user."""
