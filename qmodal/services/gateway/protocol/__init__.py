"""The connections of a gateway: those of uvicorn, with limits, and with framing that cannot be read in two ways."""
