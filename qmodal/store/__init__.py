"""All that is kept in Redis: the keys, and a module of operations for each noun."""
