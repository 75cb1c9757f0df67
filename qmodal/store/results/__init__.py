"""What inputs leave behind: outcomes and items for their callers, notes of failed ones, and dead letters."""
