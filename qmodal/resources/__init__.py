"""Objects that options name: images, secrets, schedules, volumes, and what is only recorded."""
