"""One cluster for all of these tests, with the chart as production has it but for the store."""

from __future__ import annotations

import concurrent.futures
import json
import shutil
from typing import TYPE_CHECKING

import pytest
import yaml

from tests.cluster import dns
from tests.cluster.site import CHART, NAMESPACE, STOREFRONT, TOKEN, TOPIC_PREFIX, WINDOW_S, Site
from tests.conftest import absent
from tests.services import cluster_kafka, coredns, helm, images, kafka
from tests.services.cluster import cluster as cluster
from tests.services.cluster_parts import NODE
from tierflow.lab import truth

if TYPE_CHECKING:
    from pathlib import Path

    from tests.services.cluster import Cluster


@pytest.fixture(scope="session")
def site(cluster: Cluster) -> Site:
    """The cluster with Kafka beside it, tierflow, the storefront, its policies and their enforcement."""
    if shutil.which("mmdebstrap") is None or not (helm.folder() / "helm").exists():
        absent("mmdebstrap or helm is absent: `make services` fetches them")
    if not coredns.binary().exists():
        absent("CoreDNS is absent: `make services` builds it")
    if not (kafka.folder() / "complete").exists() or shutil.which("java") is None:
        absent("Kafka is absent: `make services` fetches it")
    credentials = cluster_kafka.start(cluster)
    load_images(cluster)
    made = Site(cluster, cluster.folder / "values.yaml")
    made.values.write_text(yaml.safe_dump(values()))
    cluster.inside("nft", "-f", "-", stdin=truth.ruleset())
    dns.start(made)
    cluster.kubectl("create", "namespace", NAMESPACE)
    secrets = [*credentials.secrets(), console_secret()]
    cluster.kubectl("apply", "--namespace", NAMESPACE, "--filename", "-", stdin=json.dumps(listed(secrets)))
    cluster.kubectl("apply", "--filename", "-", stdin=json.dumps(volume(cluster)))
    made.helm("install", "flows", str(CHART), "--values", str(made.values))
    cluster.kubectl("apply", "--filename", str(STOREFRONT / "crds"))
    cluster.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
    made.apply(STOREFRONT / "enforcer" / "enforcer.yaml")
    made.rollout("deployment/kube-dns", namespace="kube-system")
    made.ready()
    made.rollout("daemonset/enforcer", namespace="storefront-enforcer")
    made.apply(*sorted(STOREFRONT.glob("*.yaml")))
    names = ("frontend", "microservice1", "microservice2", "backend", "logging")
    made.rollout(*(f"deployment/{name}" for name in names), namespace="storefront")
    return made


def load_images(cluster: Cluster) -> None:
    """Build and import all images, one importing while the next is written."""
    folder = cluster.folder / "images"
    folder.mkdir()
    with concurrent.futures.ThreadPoolExecutor(1) as importing:
        loads = []
        for target in images.IMAGES:
            archive = images.build(target, folder)
            loads.append(importing.submit(_load, cluster, archive))
        for each in loads:
            each.result()


def _load(cluster: Cluster, archive: Path) -> None:
    cluster.load(archive)
    archive.unlink()


def values() -> dict[str, object]:
    """The chart's values: an external Kafka with TLS and SASL; DuckDB on a volume that outlives its pod."""
    return {
        "cluster": "e2e",
        "image": {"pullPolicy": "Never"},
        "kafka": {
            "bootstrapServers": cluster_kafka.BOOTSTRAP,
            "tls": {"enabled": True, "caSecret": "kafka-ca"},
            "sasl": {"mechanism": cluster_kafka.MECHANISM, "secret": "kafka"},
            "topics": {"replicationFactor": 1, "prefix": TOPIC_PREFIX},
        },
        "store": {"kind": "duckdb", "duckdb": {"size": "1Gi"}},
        "stream": {
            "windowSeconds": WINDOW_S,
            "latenessSeconds": 2,
            "resources": {"requests": {"cpu": "50m", "memory": "128Mi"}, "limits": {"memory": "1Gi"}},
        },
        "sink": {"resources": {"requests": {"cpu": "20m", "memory": "128Mi"}, "limits": {"memory": "1Gi"}}},
        "console": {"tokenSecret": "console"},
    }


def listed(objects: list[dict[str, object]]) -> dict[str, object]:
    return {"apiVersion": "v1", "kind": "List", "items": objects}


def console_secret() -> dict[str, object]:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "console"}, "stringData": {"token": TOKEN}}


def volume(cluster: Cluster) -> dict[str, object]:
    """A volume on the node's disk for the sink's claim."""
    path = cluster.folder / "volume"
    path.mkdir()
    here = {"key": "kubernetes.io/hostname", "operator": "In", "values": [NODE]}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": "flows"},
        "spec": {
            "capacity": {"storage": "1Gi"},
            "accessModes": ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Retain",
            "local": {"path": str(path)},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [here]}]}},
        },
    }
