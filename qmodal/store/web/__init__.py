"""What the web needs in Redis: inboxes for what streams, routes, gateways, and tokens of callers."""
