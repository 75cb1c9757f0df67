"""Settling inputs that have ended: outcomes merged and written, retries, packs split, inputs rerouted."""
