"""Which capabilities the eBPF source needs, and which of them this process lacks."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from tierflow.schemas.errors import UnavailableError

NEEDED: Final = {"CAP_NET_ADMIN": 12, "CAP_PERFMON": 38, "CAP_BPF": 39}
"""tc and conntrack; pointers in the program's stack and bounded loops; maps and programs (capability.h)."""


def effective(status: Path = Path("/proc/self/status")) -> int:
    """The effective capabilities of this process as a bit set."""
    line = next(line for line in status.read_text().splitlines() if line.startswith("CapEff:"))
    return int(line.split()[1], 16)


def require(capabilities: int) -> None:
    """Refuse to start without what eBPF needs.

    Raises:
        UnavailableError: names what is missing.
    """
    missing = [name for name, bit in NEEDED.items() if not capabilities >> bit & 1]
    if missing:
        raise UnavailableError(
            f"--source ebpf: this process lacks {', '.join(missing)} (it needs {', '.join(NEEDED)} and nothing else); "
            "run as root or grant them, or use --source synthetic"
        )
