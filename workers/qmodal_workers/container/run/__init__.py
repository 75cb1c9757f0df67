"""What happens to a claimed input until it has an outcome: admitted, found, run, interrupted."""
