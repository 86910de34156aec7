"""The cluster's DNS: CoreDNS, set up as usual, and with the names of what stands for the internet."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

from tests.cluster.site import STOREFRONT
from tests.services import coredns
from tests.services.cluster_parts import INTERNET_ADDRESSES
from tests.services.images import IMAGES

if TYPE_CHECKING:
    from tests.cluster.site import Site

FOLDER = "dns"
"""In the cluster's folder, seen by the pod as /dns."""
COREFILE = f"""
.:53 {{
    errors
    ready
    hosts {{
        {INTERNET_ADDRESSES[0]} api.twilio.com
        {INTERNET_ADDRESSES[1]} elsewhere
        fallthrough
    }}
    kubernetes cluster.local
    cache 30
}}
"""
READS = {"": ["services", "pods", "namespaces"], "discovery.k8s.io": ["endpointslices"]}


def start(site: Site) -> None:
    """Start it, behind the Service and under the names that the lab's own kube-dns has."""
    folder = site.cluster.folder / FOLDER
    folder.mkdir()
    shutil.copy2(coredns.binary(), folder)
    (folder / "Corefile").write_text(COREFILE)
    (image,) = IMAGES["storefront"]
    container = {
        "image": image,
        "command": ["/dns/coredns", "-conf", "/dns/Corefile"],
        "args": [],
        "securityContext": {
            "runAsUser": 0,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]},
        },
        "readinessProbe": {"httpGet": {"path": "/ready", "port": 8181}, "periodSeconds": 1},
        "volumeMounts": [{"name": "dns", "mountPath": "/dns", "readOnly": True}],
    }

    def with_coredns(document: dict[str, Any]) -> None:
        if document["kind"] == "Deployment":
            pod = document["spec"]["template"]["spec"]
            pod["volumes"] = [{"name": "dns", "hostPath": {"path": str(folder)}}]
            pod["containers"][0] |= container

    site.cluster.kubectl("apply", "--filename", "-", stdin=json.dumps(may_read()))
    site.apply(STOREFRONT / "lab" / "kube-dns.yaml", edit=with_coredns)


def may_read() -> dict[str, Any]:
    """The role that CoreDNS has everywhere, and who has it."""
    rules = [
        {"apiGroups": [group], "resources": resources, "verbs": ["list", "watch"]} for group, resources in READS.items()
    ]
    name = {"name": "coredns"}
    authorization = "rbac.authorization.k8s.io"
    binding = {
        "subjects": [{"kind": "ServiceAccount", "name": "kube-dns", "namespace": "kube-system"}],
        "roleRef": {"apiGroup": authorization, "kind": "ClusterRole", **name},
    }
    common = {"apiVersion": f"{authorization}/v1", "metadata": name}
    items = [common | {"kind": "ClusterRole", "rules": rules}, common | {"kind": "ClusterRoleBinding"} | binding]
    return {"apiVersion": "v1", "kind": "List", "items": items}
