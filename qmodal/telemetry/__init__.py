"""What processes say of themselves: events, their lines in a log, spans of OpenTelemetry, and metrics over HTTP for Prometheus."""
