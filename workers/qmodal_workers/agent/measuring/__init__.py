"""What a worker measures: how long starts take, what its containers have counted, and the figures of its box."""
