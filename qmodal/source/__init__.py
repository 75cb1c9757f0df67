"""The user's file becomes a module; first-party code becomes a bundle, and a bundle a folder."""
