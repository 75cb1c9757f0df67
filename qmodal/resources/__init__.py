"""Objects that options name: images, secrets, schedules, volumes, and what is declared but not supported."""
