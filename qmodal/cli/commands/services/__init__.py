"""Commands that are long-lived processes, and those that look at what these do."""
