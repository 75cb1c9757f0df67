"""How operations reach Redis, knowing no key: what is asked, connections, and a driver each for plain and for asyncio callers."""
