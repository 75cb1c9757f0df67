"""Keeps the containers of a box as they were assigned, and speaks for the box."""
