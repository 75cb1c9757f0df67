"""The keywords of decorators: their types for editors, and the checks of their values."""
