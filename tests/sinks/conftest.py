"""The services of these tests."""

from tests.services.elasticsearch import elasticsearch, elasticsearch_nine
from tests.services.kafka import kafka

__all__ = ["elasticsearch", "elasticsearch_nine", "kafka"]
