"""The client for other programs; generated from ``everbell.client.aio``, but for the transport."""
