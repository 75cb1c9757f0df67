"""What a box has and offers, and what holds its containers within that: limits, and starts that wait for memory."""
