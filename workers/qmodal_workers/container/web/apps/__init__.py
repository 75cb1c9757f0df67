"""The ASGI app of each kind of web function, and its lifespan."""
