"""The parts of the one-node Kubernetes of cluster.py: what each reads, and its command line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Final

from tests.services import kubernetes

BUILT: Final = ("kubelet", "kube-controller-manager", "kube-scheduler", "kube-proxy")
CNI_FOLDER: Final = Path("/usr/lib/cni")
LAB: Final = Path(__file__).parents[2] / "lab"
NODE: Final = "node-1"
NODE_ADDRESS: Final = "10.99.0.1"
DNS_ADDRESS: Final = "10.96.0.10"
"""The ClusterIP of kube-dns."""
PODS: Final = "10.244.0.0/24"
SERVICES: Final = "10.96.0.0/16"
API: Final = f"https://{NODE_ADDRESS}:6443"
INTERNET: Final = "internet"
"""A namespace that stands for everything outside of the cluster."""
INTERNET_ADDRESSES: Final = ("203.0.113.10", "198.51.100.20")
"""What api.twilio.com and a place that no policy names have there; documentation ranges (RFC 5737)."""


def built(name: str) -> Path:
    """A binary of Kubernetes in the cache."""
    return kubernetes.folder() / "bin" / name


def commands(at: Path) -> dict[str, list[str]]:
    """Command lines by name of part, for a cluster in folder ``at``."""
    kubeconfig = f"--kubeconfig={at}/admin.conf"
    return {
        "etcd": [
            "etcd", f"--data-dir={at}/etcd", "--listen-client-urls=http://127.0.0.1:2379",
            "--advertise-client-urls=http://127.0.0.1:2379", "--listen-peer-urls=http://127.0.0.1:2380",
            "--unsafe-no-fsync", "--log-level=warn",
        ],
        "internet": [
            "ip", "netns", "exec", INTERNET, sys.executable, "-I", "-S", str(LAB / "storefront.py"),
            "serve", "--listen", "80",
        ],
        "apiserver": [
            str(kubernetes.binary()), "--etcd-servers=http://127.0.0.1:2379", "--secure-port=6443",
            f"--advertise-address={NODE_ADDRESS}", f"--cert-dir={at}/pki", f"--service-cluster-ip-range={SERVICES}",
            f"--service-account-key-file={at}/sa.key", f"--service-account-signing-key-file={at}/sa.key",
            "--service-account-issuer=https://kubernetes.default.svc", f"--token-auth-file={at}/tokens",
            "--authorization-mode=RBAC", "--enable-admission-plugins=NodeRestriction",
            "--kubelet-preferred-address-types=InternalIP",
        ],
        "controller-manager": [
            str(built("kube-controller-manager")), kubeconfig, "--leader-elect=false",
            f"--service-account-private-key-file={at}/sa.key", f"--root-ca-file={at}/pki/apiserver.crt",
            "--use-service-account-credentials=false", f"--cert-dir={at}/pki-cm",
            "--node-monitor-grace-period=40s",
        ],
        "scheduler": [str(built("kube-scheduler")), kubeconfig, "--leader-elect=false", f"--cert-dir={at}/pki-s"],
        "containerd": ["containerd", "--config", f"{at}/containerd.toml"],
        "kubelet": [
            str(built("kubelet")), kubeconfig, f"--config={at}/kubelet.yaml", f"--root-dir={at}/kubelet",
            f"--hostname-override={NODE}", f"--node-ip={NODE_ADDRESS}", f"--cert-dir={at}/pki-k",
        ],
        "proxy": [
            str(built("kube-proxy")), kubeconfig, "--proxy-mode=nftables", f"--cluster-cidr={PODS}",
            f"--hostname-override={NODE}", "--conntrack-max-per-core=0", "--conntrack-tcp-timeout-established=0",
            "--conntrack-tcp-timeout-close-wait=0",
        ],
    }  # fmt: skip


def write_configuration(at: Path, control_group: str) -> None:
    """Write what the commands read: keys, tokens, a kubeconfig, and the settings of containerd, CNI and kubelet."""
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
    (at / "cni" / "10-ptp.conflist").write_text(json.dumps({"cniVersion": "0.4.0", "name": "pods", "plugins": plugins}))
    (at / "kubelet.yaml").write_text(
        json.dumps(
            {
                "apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
                "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
                "authorization": {"mode": "AlwaysAllow"},
                "cgroupDriver": "cgroupfs", "cgroupRoot": f"/{control_group}", "failCgroupV1": False,
                "failSwapOn": False, "oomScoreAdj": 0, "enforceNodeAllocatable": [],
                "containerRuntimeEndpoint": f"unix://{at}/containerd.sock",
                "clusterDNS": [DNS_ADDRESS], "clusterDomain": "cluster.local", "resolvConf": f"{at}/resolv.conf",
                "evictionHard": {"nodefs.available": "1%", "imagefs.available": "1%", "memory.available": "100Mi"},
                "podLogsDir": f"{at}/pod-logs",
                "nodeStatusUpdateFrequency": "5s",
            }
        )
    )  # fmt: skip
