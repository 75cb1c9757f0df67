"""What several callers or operations share: one write, one connection, one stream of replies."""
