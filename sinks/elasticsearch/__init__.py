"""The store of a cluster: flow logs and policy counters in Elasticsearch indices, one a day."""
