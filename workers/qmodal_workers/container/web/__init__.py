"""Requests of web functions in a container: each is run through an ASGI app, and answered whole or as a stream."""
