"""The REST face: Starlette routes over the use cases."""
