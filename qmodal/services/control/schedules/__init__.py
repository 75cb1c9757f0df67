"""Schedules: which slots they have, which are due, and the call that each becomes."""
