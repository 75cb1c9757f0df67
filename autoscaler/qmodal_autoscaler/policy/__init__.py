"""Arithmetic only: how many containers a pool deserves, which may go, and where new ones start."""
