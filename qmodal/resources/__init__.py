"""Objects that options name: images, secrets, schedules, volumes, what is only recorded, and what all handles of kept objects have in common."""
