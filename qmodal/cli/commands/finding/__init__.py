"""Commands that find calls, pools and dead letters: they read heads and plain data, and never unpickle."""
