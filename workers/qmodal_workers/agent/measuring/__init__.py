"""What a worker measures: how long starts take, what its containers use and have counted, and the figures of its box."""
