"""A gateway: answers HTTP requests with web functions, each request as one input of a function's pool."""
