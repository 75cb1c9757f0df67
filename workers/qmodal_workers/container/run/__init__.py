"""What happens to a claimed input until it has an outcome: checked, found, run, interrupted."""
