"""What containers print, from their pipes to the entries of a log."""
