"""Chores: the clearing up that can be late, each in small steps that may be repeated."""
