"""The keys and values of the program's maps, as numpy dtypes; the C structs are in ``bpf/conversations.c``."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

import numpy as np

SOURCE_FOLDER: Final = Path(__file__).resolve().parent / "bpf"

KEY: Final = np.dtype(
    [
        ("local_hi", "<u8"),
        ("local_lo", "<u8"),
        ("remote_hi", "<u8"),
        ("remote_lo", "<u8"),
        ("local_port", "<u2"),
        ("remote_port", "<u2"),
        ("ifindex", "<u4"),
        ("proto", "<u4"),
        ("icmp", "<u4"),
    ]
)
"""``struct conversation_key``, 48 bytes; local is the pod's side."""

CONVERSATION: Final = np.dtype(
    [
        ("last_seen_ns", "<u8"),
        ("syn_ns", "<u8"),
        ("ended", "<u8"),
        ("lost_epoch", "<u4"),
        ("dst_port", "<u2"),
        ("reporter", "u1"),
        ("marks", "u1"),
        ("answered", "u1"),
        ("zero", "u1", (7,)),
    ]
)
"""``struct conversation``, 40 bytes, what outlives a drain."""

FIN_LOCAL: Final = 1
FIN_REMOTE: Final = 2
ENDED: Final = FIN_LOCAL | FIN_REMOTE
"""What ``ended`` says of a conversation that is over: both ends sent a FIN, or one a reset."""

LOSS: Final = np.dtype([("records", "<u8"), ("packets", "<u8"), ("bytes", "<u8")])
"""``struct loss``; of what is lost, one row for each possible CPU."""

PINNED: Final = (
    "counters_a", "counters_b", "active", "conversations", "losses", "said", "epoch", "from_pod", "to_pod",
)  # fmt: skip


def layout_name() -> str:
    """A name that changes with the program's source, and so with the layout of its maps."""
    digest = hashlib.sha256()
    for path in sorted(SOURCE_FOLDER.iterdir()):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]
