"""Arithmetic only: how many containers a pool needs, which may go, and where new ones start."""
