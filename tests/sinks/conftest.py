"""The services of these tests."""

from tests.services.elasticsearch import elasticsearch

__all__ = ["elasticsearch"]
