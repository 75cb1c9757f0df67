"""How operations reach Redis, knowing no key: connections, and a driver for plain and for asyncio callers."""
