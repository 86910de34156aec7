"""Kibana saved objects, made from a readable source."""
