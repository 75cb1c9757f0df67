"""A socket to the server: where it leads, how it is opened, watched by a loop, and waited for."""
