"""Elasticsearch 8.19 as Elastic publishes it for integration tests, run as a child process."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conftest import absent
from tierflow.cli.broker import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

VERSION = "8.19.0"
ARTIFACT = f"org.elasticsearch.distribution.integ-test-zip:elasticsearch:{VERSION}:zip"
PLUGIN = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()) / "tierflow"
HOME = CACHE / f"elasticsearch-{VERSION}"
READY_S = 240
"""Eighteen seconds on an idle machine; many times that where everything else is tested at once."""
NOBODY = 65_534
"""Elasticsearch refuses to run as root."""


def install() -> str:
    """Unpack Elasticsearch into the cache, fetching it from Maven Central where it isn't there yet.

    Raises:
        RuntimeError: no Maven, no JDK, or it can't be fetched.
    """
    if java_home() is None:
        raise RuntimeError("no JDK 17 or newer: install openjdk-17-jdk-headless")
    if (HOME / "lib").is_dir():
        return f"Elasticsearch {VERSION} in {HOME}"
    if shutil.which("mvn") is None:
        raise RuntimeError("no Maven to fetch it with: install maven")
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as scratch:
        done = subprocess.run(
            ["mvn", "-q", "-B", PLUGIN, f"-Dartifact={ARTIFACT}", f"-DoutputDirectory={scratch}"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode != 0:
            raise RuntimeError(f"Maven can't fetch {ARTIFACT}: {done.stdout.strip()[-300:]}")
        with zipfile.ZipFile(Path(scratch) / f"elasticsearch-{VERSION}.zip") as archive:
            archive.extractall(scratch)
        unpacked = Path(scratch) / f"elasticsearch-{VERSION}"
        for program in (unpacked / "bin").iterdir():
            program.chmod(0o755)
        unpacked.rename(HOME)
    return f"Elasticsearch {VERSION} in {HOME}"


def java_home() -> Path | None:
    """The JDK of the ``java`` on the path."""
    java = shutil.which("java")
    return None if java is None else Path(java).resolve().parents[1]


@dataclass
class Elasticsearch:
    """One node on loopback, with its data in ``folder``; it may be killed and started again."""

    folder: Path
    settings: Mapping[str, str] = field(default_factory=dict)
    scheme: str = "http"
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"{self.scheme}://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start, and return when it answers."""
        self.prepare()
        environment = {"ES_JAVA_HOME": str(java_home()), "ES_PATH_CONF": str(self.folder / "config"),
                       "PATH": os.environ["PATH"], "ES_JAVA_OPTS": "-Xms512m -Xmx512m"}  # fmt: skip
        with (self.folder / "console.log").open("ab") as log:
            self.process = subprocess.Popen(
                [str(self.folder / "home" / "bin" / "elasticsearch")],
                env=environment, stdout=log, stderr=log, start_new_session=True,
                **({"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}),
            )  # fmt: skip
        self.wait()

    def prepare(self) -> None:
        """Lay out configuration and program where an unprivileged user may read them."""
        config = self.folder / "config"
        if not config.is_dir():
            shutil.copytree(HOME / "config", config)
            # The cache may stand in a home folder that only its owner may enter; hard links cost no space.
            shutil.copytree(HOME, self.folder / "home", copy_function=_link)
        lines = {
            "discovery.type": "single-node", "xpack.security.enabled": "false", "http.port": str(self.port),
            "transport.port": str(free_port()), "network.host": "127.0.0.1", "path.data": str(self.folder / "data"),
            "path.logs": str(self.folder / "logs"), "cluster.routing.allocation.disk.threshold_enabled": "false",
            "node.store.allow_mmap": "false",
        } | dict(self.settings)  # fmt: skip
        (config / "elasticsearch.yml").write_text("".join(f"{key}: {value}\n" for key, value in lines.items()))
        # The virtual machine's own log goes below the program.
        (self.folder / "home" / "logs").mkdir(exist_ok=True)
        if os.geteuid() == 0:
            os.chown(self.folder / "home" / "logs", NOBODY, NOBODY)
            for path in (self.folder, *self.folder.rglob("*")):
                if not path.is_symlink() and (self.folder / "home") not in path.parents:
                    os.chown(path, NOBODY, NOBODY)

    def wait(self) -> None:
        """Return when it answers; what it wrote is in the error where it doesn't."""
        give_up = time.monotonic() + READY_S
        while time.monotonic() < give_up:
            if self.process is not None and self.process.poll() is not None:
                break
            try:
                with urllib.request.urlopen(f"{self.url}/_cluster/health", timeout=2):
                    return
            except urllib.error.HTTPError:
                return  # It answers, if only to say who may ask.
            except OSError:
                time.sleep(0.2)
        raise RuntimeError(f"Elasticsearch doesn't start: {(self.folder / 'console.log').read_text()[-2000:]}")

    def kill(self) -> None:
        """End it as a power failure would."""
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def ask(self, method: str, path: str, body: object = None) -> dict[str, object]:
        """The answer to one request, as JSON."""
        request = urllib.request.Request(
            f"{self.url}{path}", method=method, data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )  # fmt: skip
        with urllib.request.urlopen(request, timeout=30) as response:
            answer: dict[str, object] = json.loads(response.read() or b"{}")
        return answer


def _link(source: str, destination: str) -> str:
    try:
        os.link(source, destination)
    except OSError:
        shutil.copy2(source, destination)
    return destination


@contextlib.contextmanager
def started(settings: Mapping[str, str] | None = None) -> Iterator[Elasticsearch]:
    """A node of one's own, gone with its data at the end."""
    if not (HOME / "lib").is_dir() or java_home() is None:
        absent(f"no Elasticsearch {VERSION}: `make services` fetches it")
    # Not below pytest's folder, which nobody but its owner may enter: Elasticsearch runs as another user.
    with tempfile.TemporaryDirectory(prefix="tierflow-elasticsearch-", ignore_cleanup_errors=True) as folder:
        node = Elasticsearch(Path(folder), settings or {})
        try:
            node.start()
            yield node
        finally:
            if node.process is not None:
                node.kill()


@pytest.fixture(scope="session")
def elasticsearch() -> Iterator[Elasticsearch]:
    """A node that lives as long as the test session; tests use index names of their own."""
    with started() as node:
        yield node
