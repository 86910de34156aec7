"""The ASGI application behind the page."""
