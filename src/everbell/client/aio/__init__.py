"""The client for asyncio programs. ``everbell.client.sync`` is generated from it."""
