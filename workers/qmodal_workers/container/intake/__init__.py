"""What a container claims, how much at once, and what it has claimed and not started."""
