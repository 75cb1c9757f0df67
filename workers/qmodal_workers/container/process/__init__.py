"""The process of a container: what makes it one, what user code finds in it, and what it forks."""
