"""Functions, pools and versions as values: options, checks, parameters, retries and signed documents."""
