"""Functions, pools and versions as values: what decorators accept, checked, and how it is published."""
