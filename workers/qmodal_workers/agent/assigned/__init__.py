"""What a box is assigned: heard of, compared with what it runs, and started as there is room."""
