"""What long-lived processes say of themselves: events, their lines in a log, and metrics over HTTP for Prometheus."""
