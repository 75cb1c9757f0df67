"""One process and its server: the client, how verbs run on it, and the state of the process."""
