"""One request under way: submitted as a call, streamed in both directions, and answered."""
