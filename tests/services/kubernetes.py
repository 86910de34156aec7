"""A real kube-apiserver with etcd: the first is built from its Go modules once, the second is the system's.

The server listens on loopback, keeps its data in a temporary folder, and authorises by RBAC, so that a ClusterRole can
be put to the test. No kubelet and no controllers: a test plays them and writes what they would write.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import shutil
import signal
import ssl
import subprocess
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import absent
from tests.guard import spawn
from tierflow.cli.broker import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

VERSION = "1.34.2"
MODULE = f"k8s.io/kubernetes@v{VERSION}"
STAGING_VERSION = "v0" + VERSION[1:]
ADMIN_TOKEN = "admin-token"
ISSUER = "https://tierflow.test"
START_TIMEOUT_S = 90


def folder() -> Path:
    """Where the binary and its scratch module are kept."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tierflow"
    return cache / f"kubernetes-{VERSION}"


def binary() -> Path:
    """The built kube-apiserver."""
    return folder() / "bin" / "kube-apiserver"


def install() -> str:
    """Build kube-apiserver into the cache, unless it is there; some ten minutes the first time."""
    if not binary().exists():
        _build()
    etcd = shutil.which("etcd")
    if etcd is None:
        raise FileNotFoundError(f"kube-apiserver {VERSION} is built, etcd is missing: install etcd-server")
    return f"kube-apiserver {VERSION}, {etcd}"


def _build() -> None:
    if shutil.which("go") is None:
        raise FileNotFoundError("no Go toolchain to build kube-apiserver with: install Go 1.24 or newer")
    scratch = folder() / "apiserver"
    scratch.mkdir(parents=True, exist_ok=True)
    environment = os.environ | {"CGO_ENABLED": "0", "GOFLAGS": "-mod=mod"}
    fetched = subprocess.run(
        ["go", "mod", "download", "-json", MODULE],
        capture_output=True, text=True, check=True, env=environment, cwd=scratch,
    )  # fmt: skip
    upstream = Path(json.loads(fetched.stdout)["GoMod"]).read_text()
    (scratch / "go.mod").write_text(scratch_module(upstream))
    version = "k8s.io/component-base/version"
    unfinished = scratch / "kube-apiserver"
    subprocess.run(
        [
            "go", "build", "-o", str(unfinished),
            "-ldflags", f"-s -w -X {version}.gitVersion=v{VERSION} -X {version}.gitMajor=1 -X {version}.gitMinor=34",
            "k8s.io/kubernetes/cmd/kube-apiserver",
        ],
        check=True, env=environment, cwd=scratch,
    )  # fmt: skip
    binary().parent.mkdir(exist_ok=True)
    unfinished.rename(binary())


def scratch_module(upstream: str) -> str:
    """A go.mod that builds the commands of ``k8s.io/kubernetes`` from outside its tree.

    Upstream's replaces its staging modules by folders of its own; published, they have the version 0.x of the release.
    """
    without_replace = re.sub(r"^replace \(.*?^\)\n?", "", upstream, flags=re.MULTILINE | re.DOTALL)
    renamed = re.sub(r"^module .*$", "module scratch", without_replace, flags=re.MULTILINE)
    published = re.sub(r"^(\s+k8s\.io/\S+) v0\.0\.0( //.*)?$", rf"\1 {STAGING_VERSION}\2", renamed, flags=re.MULTILINE)
    return published + f"\nrequire k8s.io/kubernetes v{VERSION}\n"


@dataclass(slots=True)
class Cluster:
    """A running API server with its etcd.

    Attributes:
        folder: its data, certificates and kubeconfigs.
        port: where the API server listens.
        etcd_port: where etcd listens.
        tokens: user by token; written to the server's token file at its next start.
        flags: more flags of the API server, of its next start.
        environment: more variables of both processes.
    """

    folder: Path
    port: int
    etcd_port: int
    tokens: dict[str, str] = field(default_factory=lambda: {ADMIN_TOKEN: 'admin,1,"system:masters"'})
    flags: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    _etcd: subprocess.Popen[bytes] | None = None
    _server: subprocess.Popen[bytes] | None = None

    def start_etcd(self) -> None:
        """Start etcd on the folder's data."""
        url, peer = f"http://127.0.0.1:{self.etcd_port}", f"http://127.0.0.1:{free_port()}"
        self._etcd = self._spawn(
            "etcd", "etcd", f"--data-dir={self.folder / 'etcd'}", f"--listen-client-urls={url}",
            f"--advertise-client-urls={url}", f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}", "--unsafe-no-fsync",
        )  # fmt: skip

    def start_server(self) -> None:
        """Start the API server with the tokens of now; returns when it is ready."""
        tokens = self.folder / "tokens.csv"
        tokens.write_text("".join(f"{token},{user}\n" for token, user in self.tokens.items()))
        key = self.folder / "service-account.key"
        if not key.exists():
            subprocess.run(["openssl", "genrsa", "-out", str(key), "2048"], check=True, capture_output=True)
        self._server = self._spawn(
            "kube-apiserver", str(binary()), f"--etcd-servers=http://127.0.0.1:{self.etcd_port}",
            "--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", f"--secure-port={self.port}",
            f"--cert-dir={self.folder / 'certificates'}", f"--service-account-key-file={key}",
            f"--service-account-signing-key-file={key}", f"--service-account-issuer={ISSUER}",
            f"--token-auth-file={tokens}", "--authorization-mode=RBAC", "--service-cluster-ip-range=10.96.0.0/16",
            "--disable-admission-plugins=ServiceAccount", "--endpoint-reconciler-type=none",
            "--etcd-compaction-interval=0", "--shutdown-delay-duration=0s", *self.flags,
        )  # fmt: skip
        give_up = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                self.call("GET", "/readyz")
            except OSError:
                if self._server.poll() is not None or time.monotonic() > give_up:
                    log = (self.folder / "kube-apiserver.log").read_text(errors="replace")[-2000:]
                    pytest.fail(f"kube-apiserver did not become ready: {log}")
                time.sleep(0.1)
            else:
                return

    @property
    def processes(self) -> dict[str, int]:
        """Process ids by name."""
        named = {"kube-apiserver": self._server, "etcd": self._etcd}
        return {name: process.pid for name, process in named.items() if process is not None}

    def kill_server(self) -> None:
        """End the API server at once, as a crash would."""
        assert self._server is not None
        self._server.kill()
        self._server.wait()

    def stop(self) -> None:
        """End both."""
        for process in (self._server, self._etcd):
            if process is not None and process.poll() is None:
                process.send_signal(signal.SIGKILL)
                process.wait()

    @contextlib.contextmanager
    def out_of_sight(self) -> Iterator[None]:
        """A killed server, up where its clients don't look; back in its place, etcd has forgotten what has happened."""
        port, self.port = self.port, free_port()
        self.start_server()
        yield
        self.compact()
        self.kill_server()
        self.port = port
        self.start_server()

    def compact(self) -> None:
        """Forget etcd's past up to now, so that older resource versions are answered with 410."""
        status = self._etcd_call("/v3/kv/range", {"key": base64.b64encode(b"a").decode()})
        self._etcd_call("/v3/kv/compaction", {"revision": status["header"]["revision"], "physical": True})

    def call(self, method: str, path: str, body: object = None, *, patch: str = "merge") -> Any:
        """One request as admin; the parsed answer, or its text where it is no JSON.

        Raises:
            OSError: refused or out of reach (urllib's errors are such).
        """
        request = urllib.request.Request(
            f"https://127.0.0.1:{self.port}{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={
                "Authorization": f"Bearer {ADMIN_TOKEN}",
                "Content-Type": f"application/{patch}-patch+json" if method == "PATCH" else "application/json",
            },
        )
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with urllib.request.urlopen(request, context=context, timeout=10) as answer:
            text = answer.read()
        try:
            return json.loads(text)
        except json.JSONDecodeError:
            return text.decode()

    def served(self, path: str) -> bool:
        """Whether the server knows a path by now."""
        try:
            self.call("GET", path)
        except OSError:
            return False
        return True

    def create(self, manifest: dict[str, Any]) -> Any:
        """Create an object of a built-in or installed kind."""
        return self.call("POST", collection(manifest), manifest)

    def service_account_token(self, name: str, uid: str, expires_s: float) -> str:
        """A token of a service account in ``default``, signed as the server does, that says to expire at ``expires_s``.

        The server takes one for a minute longer than it says, for clocks that are apart, and for ten seconds more what
        it has just taken. Asked for a token, it makes none that expires within ten minutes.
        """
        now = int(time.time())
        account = {"namespace": "default", "serviceaccount": {"name": name, "uid": uid}}
        claims = {
            "iss": ISSUER, "aud": [ISSUER], "sub": f"system:serviceaccount:default:{name}", "iat": now - 3600,
            "nbf": now - 3600, "exp": int(expires_s), "kubernetes.io": account,
        }  # fmt: skip
        signed = b".".join(_base64url(json.dumps(each).encode()) for each in ({"alg": "RS256", "typ": "JWT"}, claims))
        signature = subprocess.run(
            ["openssl", "dgst", "-sha256", "-sign", str(self.folder / "service-account.key")],
            input=signed, check=True, capture_output=True,
        ).stdout  # fmt: skip
        return (signed + b"." + _base64url(signature)).decode()

    def kubeconfig(self, name: str, token: str, *, port: int | None = None) -> Path:
        """A kubeconfig whose token is in a file of its own, ``<name>.token``; by a proxy's port, if one is given."""
        token_file = self.folder / f"{name}.token"
        token_file.write_text(token)
        path = self.folder / f"{name}.kubeconfig"
        authority = str(self.folder / "certificates" / "apiserver.crt")
        server = {"server": f"https://127.0.0.1:{port or self.port}", "certificate-authority": authority}
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "it",
            "clusters": [{"name": "it", "cluster": server}],
            "users": [{"name": "it", "user": {"tokenFile": str(token_file)}}],
            "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
        }
        path.write_text(json.dumps(content))
        return path

    def _etcd_call(self, path: str, body: dict[str, Any]) -> Any:
        request = urllib.request.Request(f"http://127.0.0.1:{self.etcd_port}{path}", data=json.dumps(body).encode())
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.loads(answer.read())

    def _spawn(self, name: str, *command: str) -> subprocess.Popen[bytes]:
        with (self.folder / f"{name}.log").open("ab") as log:
            return spawn(
                command, stdout=log, stderr=log, start_new_session=True, cwd=self.folder,
                env=os.environ | self.environment,
            )  # fmt: skip


PLURALS = {"NetworkPolicy": "networkpolicies", "GlobalNetworkPolicy": "globalnetworkpolicies"}
CLUSTER_WIDE = frozenset(
    (
        *("Namespace", "Node", "CustomResourceDefinition", "ClusterRole", "ClusterRoleBinding"),
        *("Tier", "GlobalNetworkSet", "GlobalNetworkPolicy"),
    )
)


def collection(manifest: dict[str, Any]) -> str:
    """The path of the collection that an object belongs to."""
    version, kind = manifest["apiVersion"], manifest["kind"]
    root = "/api/v1" if version == "v1" else f"/apis/{version}"
    plural = PLURALS.get(kind, kind.lower() + "s")
    if kind in CLUSTER_WIDE:
        return f"{root}/{plural}"
    return f"{root}/namespaces/{manifest['metadata'].get('namespace', 'default')}/{plural}"


def _base64url(content: bytes) -> bytes:
    return base64.urlsafe_b64encode(content).rstrip(b"=")


def missing() -> str:
    """What isn't there that a cluster needs, and how it is had; ``""`` when all is."""
    if not binary().exists():
        return "kube-apiserver isn't built: `make services` builds it"
    return "" if shutil.which("etcd") else "etcd is absent: install etcd-server"


@contextlib.contextmanager
def running(
    data: Path, flags: tuple[str, ...] = (), environment: Mapping[str, str] = MappingProxyType({})
) -> Iterator[Cluster]:
    """A cluster on loopback whose data are in a folder."""
    started = Cluster(data, free_port(), free_port(), flags=flags, environment=environment)
    try:
        started.start_etcd()
        started.start_server()
        yield started
    finally:
        started.stop()


@pytest.fixture
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster of a test's own, since it may be killed and compacted."""
    if reason := missing():
        absent(reason)
    with running(tmp_path_factory.mktemp("cluster")) as started:
        yield started
