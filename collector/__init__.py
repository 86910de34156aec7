"""Packets to raw records on ``flows.raw``: eBPF, capture file, synthetic."""
