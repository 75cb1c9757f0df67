"""What travels through Redis, as values and signed bytes; nothing here opens a connection."""
