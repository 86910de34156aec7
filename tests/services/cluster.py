"""A whole one-node Kubernetes: real control plane, kubelet, containerd and kube-proxy, without Docker, as root.

All of it runs in network, mount and process namespaces of its own, with its state in one temporary folder, so that
ending the namespaces' first process ends everything: pods, rules, interfaces and mounts. What lies outside of
namespaces is put back by :meth:`Cluster.stop`, or at the next start where that never came to pass (outside.py).
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conftest import absent
from tests.services import helm, kubernetes, outside
from tests.services.cluster_parts import (
    BUILT,
    CNI_FOLDER,
    INTERNET,
    INTERNET_ADDRESSES,
    NODE,
    NODE_ADDRESS,
    built,
    commands,
    write_configuration,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SYSTEM = ("etcd", "containerd", "runc", "ctr", "conntrack", "nft", "ip", "nsenter", "unshare", "gcc", "openssl")
LOCK = Path(tempfile.gettempdir()) / "tierflow-cluster.lock"
"""Held by the machine's one cluster at a time: two would share control groups, kernel settings and 2 cores."""
# A test run that is killed takes its cluster with it.
NEW_NAMESPACES = (
    "setpriv",
    "--pdeathsig",
    "KILL",
    "unshare",
    "--net",
    "--mount",
    "--pid",
    "--fork",
    "--kill-child",
    "--mount-proc",
)
INIT = "import signal; signal.signal(signal.SIGCHLD, signal.SIG_IGN)\nwhile True: signal.pause()"
"""The namespaces' first process: it only reaps orphans."""
PAUSE = (
    "#include <unistd.h>\n#include <signal.h>\nvoid end(int s){_exit(0);}\n"
    "int main(){signal(15,end);signal(2,end);for(;;)pause();}\n"
)


def install() -> str:
    """Build what kubernetes.py doesn't, behind it and with its scratch module; some minutes the first time."""
    missing = [name for name in SYSTEM if shutil.which(name) is None]
    if missing or not (CNI_FOLDER / "ptp").exists():
        raise FileNotFoundError(
            f"missing: {', '.join(missing) or 'CNI plug-ins'} (Debian: containerd runc containernetworking-plugins "
            "etcd-server conntrack nftables mmdebstrap openssl gcc)"
        )
    kubernetes.install()
    for name in BUILT:
        if not built(name).exists():
            _build(name)
    return f"Kubernetes {kubernetes.VERSION} with kubelet and kube-proxy"


def _build(name: str) -> None:
    scratch = kubernetes.folder() / "apiserver"
    unfinished = scratch / name
    version = "k8s.io/component-base/version"
    flags = f"-s -w -X {version}.gitVersion=v{kubernetes.VERSION} -X {version}.gitMajor=1 -X {version}.gitMinor=34"
    subprocess.run(
        ["nice", "-n", "15", "go", "build", "-o", str(unfinished), "-ldflags", flags, f"k8s.io/kubernetes/cmd/{name}"],
        check=True, cwd=scratch, env=os.environ | {"CGO_ENABLED": "0", "GOFLAGS": "-mod=mod"},
    )  # fmt: skip
    unfinished.rename(built(name))


class Cluster:
    """One node; ``start`` brings it up, ``stop`` leaves nothing behind.

    Args:
        folder: by ``outside.make_folder``, on a real file system (containerd makes overlays in it).
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._init: subprocess.Popen[bytes] | None = None
        self._init_pid = 0
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        """Start everything; returns when the node is Ready.

        Raises:
            RuntimeError: a part ended or wasn't ready in time; the message has its last lines.
        """
        write_configuration(self.folder, self.folder.name)
        self._make_namespaces()
        outside.make_control_groups(self.folder.name)
        for name in ("etcd", "apiserver"):
            self.run(name)
        self.wait("the API server", lambda: self.kubectl("get", "--raw", "/readyz", check=False).stdout == "ok")
        for name in ("controller-manager", "scheduler", "containerd"):
            self.run(name)
        self.wait("containerd", lambda: self._ctr("version").returncode == 0)
        self._import_pause()
        for name in ("kubelet", "proxy", "internet"):
            self.run(name)
        self.wait("the node", self.node_is_ready)

    def stop(self) -> None:
        """End every process, and put back what lies outside of the namespaces."""
        if self._init is not None:
            # The first process of a process namespace takes all others with it.
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._init_pid, 9)
            self._init.wait(timeout=outside.END_TIMEOUT_S)
            for process in self._processes.values():
                process.wait(timeout=outside.END_TIMEOUT_S)
        outside.put_back(self.folder)

    def kubectl(
        self, *arguments: str, check: bool = True, stdin: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run kubectl as the cluster's administrator."""
        return self.inside(
            str(helm.folder() / "kubectl"), "--kubeconfig", str(self.folder / "admin.conf"), *arguments,
            check=check, stdin=stdin,
        )  # fmt: skip

    def get(self, *arguments: str) -> dict[str, object]:
        """``kubectl get … -o json``."""
        found: dict[str, object] = json.loads(self.kubectl("get", *arguments, "-o", "json").stdout)
        return found

    def helm(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run helm as the cluster's administrator."""
        return self.inside(
            "env", f"HELM_CACHE_HOME={self.folder}/helm", f"HELM_CONFIG_HOME={self.folder}/helm",
            f"HELM_DATA_HOME={self.folder}/helm",
            str(helm.folder() / "helm"), "--kubeconfig", str(self.folder / "admin.conf"), *arguments, check=check,
        )  # fmt: skip

    def processes(self, word: str) -> list[int]:
        """Process ids, as seen from outside, of what runs in the cluster's pods with ``word`` among its arguments."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):  # it ended meanwhile
                    arguments = (entry / "cmdline").read_bytes().split(b"\0")
                    if word.encode() in arguments and f"/{self.folder.name}/" in (entry / "cgroup").read_text():
                        found.append(int(entry.name))
        return found

    def load(self, archive: Path) -> None:
        """Import a docker-archive into the node."""
        done = self._ctr("-n", "k8s.io", "images", "import", str(archive))
        if done.returncode:
            raise RuntimeError(f"{archive}: {done.stderr}")

    def inside(self, *command: str, check: bool = True, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run a command in the node's namespaces."""
        done = subprocess.run(
            ["nsenter", "--target", str(self._init_pid), "--net", "--mount", "--pid", *command],
            capture_output=True, text=True, check=False, input=stdin,
        )  # fmt: skip
        if check and done.returncode:
            raise RuntimeError(f"{' '.join(command[:8])}: {done.stderr.strip() or done.stdout.strip()}")
        return done

    def run(self, name: str, *command: str) -> None:
        """Start one part, or anything else, in all of the node's namespaces; it ends with the cluster."""
        argv = command or commands(self.folder)[name]
        with (self.folder / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                ["nsenter", "--target", str(self._init_pid), "--net", "--mount", "--pid", *argv],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    def kill(self, name: str) -> None:
        """End one part with SIGKILL, as a crash would."""
        process = self._processes.pop(name)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        for child in children:
            os.kill(int(child), 9)
        process.wait(timeout=30)

    def restart_node(self) -> None:
        """Kill kubelet and containerd as a crash would, then start them as a service manager would: until they stay."""
        for name in ("kubelet", "containerd"):
            self.kill(name)
        self.run("containerd")
        self.wait("containerd", lambda: self._ctr("version").returncode == 0)
        self.run("kubelet")

        def healthy() -> bool:
            # It ends at once while containerd is still looking through its containers.
            if self._processes["kubelet"].poll() is not None:
                self.run("kubelet")
            question = "import urllib.request; urllib.request.urlopen('http://127.0.0.1:10248/healthz', timeout=2)"
            return self.inside(sys.executable, "-c", question, check=False).returncode == 0

        deadline = time.monotonic() + 120
        while not healthy():
            if time.monotonic() > deadline:
                raise RuntimeError(f"the kubelet did not come back: {self.last_lines('kubelet')}")
            time.sleep(0.5)
        self.wait("the node", self.node_is_ready)

    def wait(self, what: str, condition: Callable[[], bool], timeout_s: float = 120) -> None:
        """Return when the condition holds; a part that ended or the time-out raises with the last lines of its log."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            for name, process in self._processes.items():
                if process.poll() is not None:
                    raise RuntimeError(f"{name} ended: {self.last_lines(name)}")
            if time.monotonic() > deadline:
                raise RuntimeError(f"{what}: not ready in {timeout_s:g} s; {self.last_lines('kubelet')}")
            time.sleep(0.3)

    def last_lines(self, name: str) -> str:
        """The end of a part's log."""
        path = self.folder / f"{name}.log"
        return "\n".join(path.read_text(errors="replace").splitlines()[-5:]) if path.exists() else "(no log)"

    def node_is_ready(self) -> bool:
        """Whether the node says Ready."""
        path = "{.status.conditions[?(@.type=='Ready')].status}"
        return self.kubectl("get", "node", NODE, "-o", f"jsonpath={path}", check=False).stdout == "True"

    def _make_namespaces(self) -> None:
        self._init = subprocess.Popen(
            (*NEW_NAMESPACES, sys.executable, "-c", INIT),
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        children = Path(f"/proc/{self._init.pid}/task/{self._init.pid}/children")
        self.wait("namespaces", lambda: children.read_text().strip() != "")
        self._init_pid = int(children.read_text().split()[0])
        ours = Path("/proc/self/ns/mnt").readlink()
        self.wait("namespaces", lambda: Path(f"/proc/{self._init_pid}/ns/mnt").readlink() != ours)
        self.inside(
            "sh",
            "-ec",
            # Folders of our own: what is named, pinned or listening in them ends with the mount namespace.
            "mount -t tmpfs tmpfs /run; mkdir -p /run/netns /run/lock; mount -t bpf bpf /sys/fs/bpf; "
            "mount -t tmpfs tmpfs /var/log; mkdir /var/log/containers; mount --make-rshared /; "
            # The node's network card: its cable ends in a namespace that stands for the internet.
            f"ip netns add {INTERNET}; ip link set lo up; "
            f"ip link add node0 type veth peer name eth0 netns {INTERNET}; "
            f"ip address add {NODE_ADDRESS}/24 dev node0; ip link set node0 up; ip route add default dev node0; "
            f"for a in 10.99.0.2/24 {' '.join(f'{each}/32' for each in INTERNET_ADDRESSES)}; "
            f"do ip -n {INTERNET} address add $a dev eth0; done; ip -n {INTERNET} link set eth0 up; "
            f"ip -n {INTERNET} route add default via {NODE_ADDRESS}; "
            "echo 1 > /proc/sys/net/ipv4/ip_forward",
        )

    def _import_pause(self) -> None:
        source = self.folder / "pause.c"
        source.write_text(PAUSE)
        root = self.folder / "pause"
        root.mkdir()
        subprocess.run(["gcc", "-static", "-Os", "-o", str(root / "pause"), str(source)], check=True)
        archive = self.folder / "pause.tar"
        rootfs_save(root, {"Entrypoint": ["/pause"]}, ["localhost/pause:1"], archive)
        self.load(archive)

    def _ctr(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.inside("ctr", "--address", f"{self.folder}/containerd.sock", *arguments, check=False)


def rootfs_save(root: Path, config: dict[str, object], tags: list[str], output: Path) -> None:
    """Write a docker-archive, by the builder of the project's own images."""
    import importlib.machinery
    import importlib.util

    path = Path(__file__).parents[2] / "deploy" / "images" / "rootfs"
    loader = importlib.machinery.SourceFileLoader("tierflow_rootfs", str(path))
    spec = importlib.util.spec_from_loader("tierflow_rootfs", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["tierflow_rootfs"] = module
    loader.exec_module(module)
    module.save(root, config, tags, output)


@contextlib.contextmanager
def running() -> Iterator[Cluster]:
    """A cluster for as long as the context lasts."""
    with LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        outside.sweep()
        cluster = Cluster(outside.make_folder())
        try:
            cluster.start()
            yield cluster
        finally:
            cluster.stop()


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A running one-node cluster, shared by the session."""
    if os.geteuid() != 0:
        absent("needs root: a kubelet")
    if not all(built(name).exists() for name in BUILT) or not kubernetes.binary().exists():
        absent("Kubernetes is absent: `make services` builds it")
    with running() as each:
        yield each
