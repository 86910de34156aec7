"""The inventory's source in a cluster: lists and watches of the API server, and the lease of the one publisher."""
