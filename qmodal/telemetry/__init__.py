"""What long-lived processes say of themselves: metrics over HTTP for Prometheus."""
