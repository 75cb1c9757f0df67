"""What travels through Redis, as frozen values and bytes; nothing in here opens a connection."""
