"""With exactly the three capabilities the collector works; without one of them it names it, and ends with code 3."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.collector.network import Network
from tests.conftest import absent
from tierflow.collector.loader import import_bcc
from tierflow.collector.privileges import NEEDED, require
from tierflow.schemas.errors import UnavailableError


def bits(*names: str) -> int:
    return sum(1 << NEEDED[name] for name in names)


@pytest.mark.parametrize("missing", list(NEEDED))
def test_each_missing_capability_is_named_in_one_line(missing: str) -> None:
    with pytest.raises(UnavailableError, match=f"lacks {missing} ") as caught:
        require(bits(*NEEDED) & ~bits(missing))
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 3


def test_the_three_capabilities_and_no_other_are_enough_to_be_let_in() -> None:
    require(bits(*NEEDED))


START = """
import sys
from pathlib import Path
from tierflow.collector.ebpf import EbpfSettings, EbpfSource
from tierflow.schemas.errors import TierflowError
status = Path("/proc/self/status").read_text().split("CapEff:")[1].split()[0]
source = EbpfSource(EbpfSettings(sys.argv[1], (sys.argv[2],), 1.0, 3600.0, 1024))
try:
    source.start()
    attached = len(source.interfaces)
    parts = list(source.drain())
except TierflowError as error:
    sys.exit(f"{error.exit_code} {error}")
finally:
    source.stop()
print(status, attached, len(parts))
"""


@pytest.mark.root
def test_a_process_with_the_three_capabilities_and_no_other_attaches_and_drains(node: str) -> None:
    if shutil.which("setpriv") is None:
        absent("needs setpriv")
    try:
        import_bcc()
    except UnavailableError as error:
        absent(str(error))
    kept = ",".join(f"+{name.removeprefix('CAP_').lower()}" for name in NEEDED)
    with Network() as network:
        done = subprocess.run(
            [
                "nsenter", f"--net=/run/netns/{network.node}", "setpriv", f"--bounding-set=-all,{kept}",
                f"--inh-caps=-all,{kept}", sys.executable, "-c", START, node, network.pattern,
            ],
            capture_output=True, text=True, check=False, timeout=60, cwd=Path(__file__).parents[2],
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    status, attached, parts = done.stdout.split()[-3:]
    assert int(status, 16) == bits(*NEEDED)
    assert int(attached) == 2
    assert int(parts) >= 1
