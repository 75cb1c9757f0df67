"""What programs keep or declare by name: dictionaries, queues, secrets and schedules."""
