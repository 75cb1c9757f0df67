"""Many inputs of one call: read, packed, submitted in chunks, and put back in order."""
