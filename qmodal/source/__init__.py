"""The user's code: a file becomes a module, first-party code a bundle, and a bundle a folder."""
