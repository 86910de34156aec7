"""A whole one-node Kubernetes: real control plane, kubelet, containerd and kube-proxy, without Docker, as root.

All of it runs in network, mount and process namespaces of its own, with its state in one temporary folder, so that
ending the namespaces' first process ends everything: pods, rules, interfaces and mounts. What lies outside of
namespaces (control groups, three kernel settings that the kubelet changes) is put back by :meth:`Cluster.stop`.
"""

from __future__ import annotations

import contextlib
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
from tests.services import helm, kubernetes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BUILT = ("kubelet", "kube-controller-manager", "kube-scheduler", "kube-proxy")
SYSTEM = ("etcd", "containerd", "runc", "ctr", "conntrack", "nft", "ip", "nsenter", "unshare", "gcc", "openssl")
CNI_FOLDER = Path("/usr/lib/cni")
DNS = Path(__file__).parents[2] / "lab" / "dns.py"
NODE = "node-1"
NODE_ADDRESS = "10.99.0.1"
DNS_ADDRESS = "10.244.0.1"
"""Of the host side of every pod's link (ptp), so that answers come from where questions went."""
PODS = "10.244.0.0/24"
SERVICES = "10.96.0.0/16"
API = f"https://{NODE_ADDRESS}:6443"
KERNEL_SETTINGS = ("vm/overcommit_memory", "kernel/panic", "kernel/panic_on_oops")
CONTROL_GROUPS = Path("/sys/fs/cgroup")
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
        if not _binary(name).exists():
            _build(name)
    return f"Kubernetes {kubernetes.VERSION} with kubelet and kube-proxy"


def _binary(name: str) -> Path:
    return kubernetes.folder() / "bin" / name


def _build(name: str) -> None:
    scratch = kubernetes.folder() / "apiserver"
    unfinished = scratch / name
    version = "k8s.io/component-base/version"
    flags = f"-s -w -X {version}.gitVersion=v{kubernetes.VERSION} -X {version}.gitMajor=1 -X {version}.gitMinor=34"
    subprocess.run(
        ["nice", "-n", "15", "go", "build", "-o", str(unfinished), "-ldflags", flags, f"k8s.io/kubernetes/cmd/{name}"],
        check=True, cwd=scratch, env=os.environ | {"CGO_ENABLED": "0", "GOFLAGS": "-mod=mod"},
    )  # fmt: skip
    unfinished.rename(_binary(name))


class Cluster:
    """One node; ``start`` brings it up, ``stop`` leaves nothing behind.

    Args:
        folder: an empty folder of its own on a real file system (containerd makes overlays in it).
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name = f"tierflow-{os.getpid()}"
        self._init: subprocess.Popen[bytes] | None = None
        self._init_pid = 0
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._settings: dict[str, str] = {}

    def start(self) -> None:
        """Start everything; returns when the node is Ready.

        Raises:
            RuntimeError: a part ended or wasn't ready in time; the message has its last lines.
        """
        self._settings = {name: (Path("/proc/sys") / name).read_text() for name in KERNEL_SETTINGS}
        self._write_configuration()
        self._make_namespaces()
        self._make_control_groups()
        for name in ("etcd", "apiserver"):
            self.run(name)
        self.wait("the API server", lambda: self.kubectl("get", "--raw", "/readyz", check=False).stdout == "ok")
        for name in ("controller-manager", "scheduler", "containerd"):
            self.run(name)
        self.wait("containerd", lambda: self._ctr("version").returncode == 0)
        self._import_pause()
        self.publish_names()
        for name in ("kubelet", "proxy", "dns"):
            self.run(name)
        self.wait("the node", self.node_is_ready)

    def stop(self) -> None:
        """End every process, and put back what lies outside of the namespaces."""
        if self._init is not None:
            # The first process of a process namespace takes all others with it.
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._init_pid, 9)
            self._init.wait(timeout=30)
            for process in self._processes.values():
                process.wait(timeout=30)
        for name, value in self._settings.items():
            path = Path("/proc/sys") / name
            if path.read_text() != value:
                path.write_text(value)
        deadline = time.monotonic() + 20
        while not self._remove_control_groups() and time.monotonic() < deadline:
            time.sleep(0.2)
        shutil.rmtree(self.folder, ignore_errors=True)

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

    def publish_names(self, **more: str) -> None:
        """Let the pods resolve every Service there is now, and ``more`` names to addresses."""
        services = json.loads(self.kubectl("get", "services", "--all-namespaces", "-o", "json").stdout)["items"]
        zone = dict(more)
        for service in services:
            name = f"{service['metadata']['name']}.{service['metadata']['namespace']}.svc"
            if service["spec"]["clusterIP"] != "None":
                zone[name] = zone[f"{name}.cluster.local"] = service["spec"]["clusterIP"]
        draft = self.folder / "zone.json.new"
        draft.write_text(json.dumps(zone))
        draft.rename(self.folder / "zone.json")

    def load(self, archive: Path) -> None:
        """Import a docker-archive into the node."""
        done = self._ctr("-n", "k8s.io", "images", "import", str(archive))
        if done.returncode:
            raise RuntimeError(f"{archive}: {done.stderr}")

    def inside(self, *command: str, check: bool = True, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run a command in the node's network and mount namespaces."""
        done = subprocess.run(
            ["nsenter", "--target", str(self._init_pid), "--net", "--mount", *command],
            capture_output=True, text=True, check=False, input=stdin,
        )  # fmt: skip
        if check and done.returncode:
            raise RuntimeError(f"{' '.join(command[:8])}: {done.stderr.strip() or done.stdout.strip()}")
        return done

    def run(self, name: str) -> None:
        """Start one part, in all of the node's namespaces."""
        with (self.folder / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                ["nsenter", "--target", str(self._init_pid), "--net", "--mount", "--pid", *self._command(name)],
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

    def _command(self, name: str) -> list[str]:
        at = self.folder
        kubeconfig = f"--kubeconfig={at}/admin.conf"
        commands = {
            "etcd": [
                "etcd", f"--data-dir={at}/etcd", "--listen-client-urls=http://127.0.0.1:2379",
                "--advertise-client-urls=http://127.0.0.1:2379", "--listen-peer-urls=http://127.0.0.1:2380",
                "--unsafe-no-fsync", "--log-level=warn",
            ],
            "dns": ["env", f"STOREFRONT_ZONE={at}/zone.json", sys.executable, str(DNS), "--listen", "53"],
            "apiserver": [
                str(kubernetes.binary()), "--etcd-servers=http://127.0.0.1:2379", "--secure-port=6443",
                f"--advertise-address={NODE_ADDRESS}", f"--cert-dir={at}/pki", f"--service-cluster-ip-range={SERVICES}",
                f"--service-account-key-file={at}/sa.key", f"--service-account-signing-key-file={at}/sa.key",
                "--service-account-issuer=https://kubernetes.default.svc", f"--token-auth-file={at}/tokens",
                "--authorization-mode=RBAC", "--enable-admission-plugins=NodeRestriction",
                "--kubelet-preferred-address-types=InternalIP",
            ],
            "controller-manager": [
                str(_binary("kube-controller-manager")), kubeconfig, "--leader-elect=false",
                f"--service-account-private-key-file={at}/sa.key", f"--root-ca-file={at}/pki/apiserver.crt",
                "--use-service-account-credentials=false", f"--cert-dir={at}/pki-cm",
                "--node-monitor-grace-period=40s",
            ],
            "scheduler": [str(_binary("kube-scheduler")), kubeconfig, "--leader-elect=false", f"--cert-dir={at}/pki-s"],
            "containerd": ["containerd", "--config", f"{at}/containerd.toml"],
            "kubelet": [
                str(_binary("kubelet")), kubeconfig, f"--config={at}/kubelet.yaml", f"--root-dir={at}/kubelet",
                f"--hostname-override={NODE}", f"--node-ip={NODE_ADDRESS}", f"--cert-dir={at}/pki-k",
            ],
            "proxy": [
                str(_binary("kube-proxy")), kubeconfig, "--proxy-mode=nftables", f"--cluster-cidr={PODS}",
                f"--hostname-override={NODE}", "--conntrack-max-per-core=0", "--conntrack-tcp-timeout-established=0",
                "--conntrack-tcp-timeout-close-wait=0",
            ],
        }  # fmt: skip
        return commands[name]

    def _write_configuration(self) -> None:
        at = self.folder
        # OpenSSL's own default is PKCS#8, which Kubernetes reads.
        subprocess.run(["openssl", "genrsa", "-out", str(at / "sa.key"), "2048"], check=True, capture_output=True)
        (at / "tokens").write_text("admin-token,admin,admin,system:masters\n")
        (at / "admin.conf").write_text(
            json.dumps(
                {
                    "apiVersion": "v1", "kind": "Config", "current-context": "c",
                    "clusters": [{"name": "c", "cluster": {"server": API, "insecure-skip-tls-verify": True}}],
                    "users": [{"name": "u", "user": {"token": "admin-token"}}],
                    "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
                }
            )
        )  # fmt: skip
        (at / "resolv.conf").write_text(f"nameserver {DNS_ADDRESS}\n")
        (at / "containerd.toml").write_text(
            f'version = 2\nroot = "{at}/containerd"\nstate = "{at}/run"\n'
            f'[grpc]\naddress = "{at}/containerd.sock"\n[ttrpc]\naddress = "{at}/containerd.ttrpc"\n'
            '[plugins."io.containerd.grpc.v1.cri"]\n'
            # Where CAP_SYS_RESOURCE is lacking, a lower score than our own can't be set, and every sandbox would fail.
            'restrict_oom_score_adj = true\nsandbox_image = "localhost/pause:1"\n'
            f'[plugins."io.containerd.grpc.v1.cri".cni]\nbin_dir = "{CNI_FOLDER}"\nconf_dir = "{at}/cni"\n'
            f'[plugins."io.containerd.internal.v1.opt"]\npath = "{at}/opt"\n'
        )
        (at / "cni").mkdir()
        plugins = [
            {
                "type": "ptp", "ipMasq": False,
                "ipam": {
                    "type": "host-local", "dataDir": f"{at}/ipam", "ranges": [[{"subnet": PODS}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": True}},
        ]  # fmt: skip
        (at / "cni" / "10-ptp.conflist").write_text(
            json.dumps({"cniVersion": "0.4.0", "name": "pods", "plugins": plugins})
        )
        (at / "kubelet.yaml").write_text(
            json.dumps(
                {
                    "apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
                    "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
                    "authorization": {"mode": "AlwaysAllow"},
                    "cgroupDriver": "cgroupfs", "cgroupRoot": f"/{self.name}", "failCgroupV1": False,
                    "failSwapOn": False, "oomScoreAdj": 0, "enforceNodeAllocatable": [],
                    "containerRuntimeEndpoint": f"unix://{at}/containerd.sock",
                    "clusterDNS": [DNS_ADDRESS], "clusterDomain": "cluster.local", "resolvConf": f"{at}/resolv.conf",
                    "evictionHard": {"nodefs.available": "1%", "imagefs.available": "1%", "memory.available": "100Mi"},
                    "podLogsDir": f"{at}/pod-logs",
                    "nodeStatusUpdateFrequency": "5s",
                }
            )
        )  # fmt: skip

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
            # Two ends of one cable in the same namespace stand in for the node's network card.
            f"ip link set lo up; ip address add {DNS_ADDRESS}/32 dev lo; "
            "ip link add node0 type veth peer name node0-peer; ip link set node0-peer up; "
            f"ip address add {NODE_ADDRESS}/24 dev node0; ip link set node0 up; ip route add default dev node0; "
            "echo 1 > /proc/sys/net/ipv4/ip_forward",
        )

    def _hierarchies(self) -> list[Path]:
        return [path for path in CONTROL_GROUPS.iterdir() if path.is_dir() and (path / "cgroup.procs").exists()]

    def _make_control_groups(self) -> None:
        for hierarchy in self._hierarchies() or [CONTROL_GROUPS]:
            (hierarchy / self.name).mkdir(exist_ok=True)
            if (hierarchy / "cpuset.cpus").exists():
                for setting in ("cpuset.cpus", "cpuset.mems"):
                    (hierarchy / self.name / setting).write_text((hierarchy / setting).read_text())

    def _remove_control_groups(self) -> bool:
        gone = True
        for hierarchy in self._hierarchies():
            top = hierarchy / self.name
            for folder in sorted([top, *top.rglob("*/")], key=lambda each: len(each.parts), reverse=True):
                if folder.is_dir():
                    try:
                        folder.rmdir()
                    except OSError:
                        gone = False
        return gone

    def _import_pause(self) -> None:
        source = self.folder / "pause.c"
        source.write_text(PAUSE)
        root = self.folder / "pause"
        root.mkdir()
        subprocess.run(["gcc", "-static", "-Os", "-o", str(root / "pause"), str(source)], check=True)
        archive = self.folder / "pause.tar"
        rootfs_save(root, {"Entrypoint": ["/pause"]}, "localhost/pause:1", archive)
        self.load(archive)

    def _ctr(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.inside("ctr", "--address", f"{self.folder}/containerd.sock", *arguments, check=False)


def rootfs_save(root: Path, config: dict[str, object], tag: str, output: Path) -> None:
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
    module.save(root, config, tag, output)


@contextlib.contextmanager
def running() -> Iterator[Cluster]:
    """A cluster for as long as the context lasts."""
    cluster = Cluster(Path(tempfile.mkdtemp(prefix="tierflow-cluster-")))
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
    if not all(_binary(name).exists() for name in BUILT) or not kubernetes.binary().exists():
        absent("Kubernetes is absent: `make services` builds it")
    with running() as each:
        yield each
