"""Fixtures of real services."""

from tests.services.kafka import kafka

__all__ = ["kafka"]
