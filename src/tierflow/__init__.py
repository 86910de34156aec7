"""tierflow: every network flow of a Kubernetes cluster, and the policy rule that decided it."""

__version__ = "0.1.0"
