"""What becomes of what has ended, or was not started: written by the loop if that needs no wait, else by a thread."""
