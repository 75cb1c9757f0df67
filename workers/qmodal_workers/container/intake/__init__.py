"""What a container claims, how much at once, and what becomes of it if it does not run here."""
