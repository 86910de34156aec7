"""The chart on a real one-node Kubernetes: what runs, with which privileges, and by which names it is reached."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from tests.cluster.site import CHART, NAMESPACE, STOREFRONT, TOKEN

if TYPE_CHECKING:
    from tests.cluster.site import Site

pytestmark = [pytest.mark.root, pytest.mark.timeout(600)]

NEEDED = {"CAP_NET_ADMIN": 12, "CAP_PERFMON": 38, "CAP_BPF": 39}
COMPONENTS = ("collector", "inventory", "stream", "sink")
# Those of the Prometheus operator are not in the cluster: the shape of these two kinds is tested without one.
WITHOUT_OPERATOR = ("--set", "metrics.serviceMonitor=false", "--set", "metrics.prometheusRule=false")


@pytest.mark.parametrize("profile", sorted(path.stem for path in (CHART / "profiles").glob("*.yaml")))
def test_every_object_of_the_profile_is_accepted_by_the_api_server(site: Site, profile: str) -> None:
    values = str(CHART / "profiles" / f"{profile}.yaml")
    rendered = site.helm("template", "dry", str(CHART), "--skip-tests", "--values", values, *WITHOUT_OPERATOR)
    said = site.cluster.kubectl(
        "apply", "--dry-run=server", "--namespace", NAMESPACE, "--filename", "-", stdin=rendered
    ).stdout.splitlines()
    assert len(said) == len(re.findall(r"^kind: ", rendered, re.MULTILINE))
    assert all(line.endswith("created (server dry run)") for line in said)


def test_an_object_that_is_wrong_is_refused_by_the_api_server(site: Site) -> None:
    rendered = site.helm("template", "dry", str(CHART), "--values", str(CHART / "profiles" / "trial.yaml"))
    wrong = rendered.replace("whenUnsatisfiable: ScheduleAnyway", "whenUnsatisfiable: Sometimes")
    assert wrong != rendered
    refused = site.cluster.kubectl(
        "apply", "--dry-run=server", "--namespace", NAMESPACE, "--filename", "-", stdin=wrong, check=False
    )
    assert refused.returncode != 0
    assert "Sometimes" in refused.stderr


def test_the_topics_were_made_with_their_partitions_and_the_charts_own_tests_pass(site: Site) -> None:
    (name,) = (each["metadata"]["name"] for each in site.items("jobs", "--namespace", NAMESPACE))
    job = (f"job/{name}", "--namespace", NAMESPACE)
    site.cluster.kubectl("wait", "--for=condition=complete", *job, "--timeout=60s")
    said = site.cluster.kubectl("logs", *job).stdout
    # A worker that was quicker has made them by the same contract.
    assert re.search(r"^e2e\.flows\.raw\.v1: (created with )?8 partitions$", said, re.MULTILINE)
    assert re.search(r"^e2e\.inventory\.v1: (created with )?1 partitions$", said, re.MULTILINE)
    assert "Phase:          Succeeded" in site.helm("test", "flows", "--timeout=90s")


def test_every_container_has_exactly_its_capabilities_no_way_to_more_and_a_read_only_root(site: Site) -> None:
    seen = {}
    for component in COMPONENTS:
        name = site.pods(component)[0]["metadata"]["name"]
        inside = ("exec", "--namespace", NAMESPACE, name, "--")
        status = site.cluster.kubectl(*inside, "cat", "/proc/1/status").stdout
        fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        written = site.cluster.kubectl(*inside, "touch", "/written", check=False)
        assert "Read-only file system" in written.stderr
        seen[component] = (
            int(fields["CapEff"], 16), int(fields["CapBnd"], 16), fields["NoNewPrivs"].strip(), fields["Uid"].split()[0]
        )  # fmt: skip
    three = sum(1 << bit for bit in NEEDED.values())
    nothing = (0, 0, "1", "65532")
    assert seen == {"collector": (three, three, "1", "0"), "inventory": nothing, "stream": nothing, "sink": nothing}


def test_the_inventorys_account_may_do_what_the_charts_role_says_and_no_more(site: Site) -> None:
    account = f"--as=system:serviceaccount:{NAMESPACE}:flows-tierflow-inventory"

    def may(verb: str, resource: str, *more: str) -> bool:
        answer = site.cluster.kubectl("auth", "can-i", verb, resource, account, *more, check=False)
        return answer.stdout.strip() == "yes"

    for resource in ("pods", "services", "tiers.projectcalico.org", "globalnetworkpolicies.projectcalico.org"):
        assert may("list", resource, "--all-namespaces")
        assert may("watch", resource, "--all-namespaces")
        assert not may("get", resource, "--all-namespaces")
        assert not may("delete", resource, "--all-namespaces")
    assert not may("list", "secrets", "--all-namespaces")
    assert may("update", "leases.coordination.k8s.io/flows-tierflow-inventory", "--namespace", NAMESPACE)
    assert not may("update", "leases.coordination.k8s.io/another", "--namespace", NAMESPACE)


def test_one_inventory_publishes_and_the_other_stands_by(site: Site) -> None:
    logs = [
        site.cluster.kubectl("logs", "--namespace", NAMESPACE, pod["metadata"]["name"]).stdout
        for pod in site.pods("inventory")
    ]
    assert sorted("standby: another publisher holds the lease" in log for log in logs) == [False, True]


def test_the_page_answers_by_its_services_name_to_who_has_the_token(site: Site) -> None:
    service = site.cluster.get("service", "flows-tierflow-console", "--namespace", NAMESPACE)
    address = service["spec"]["clusterIP"]  # type: ignore[index]
    name = f"flows-tierflow-console.{NAMESPACE}.svc"

    def curl(path: str, *more: str) -> str:
        resolve = ("--resolve", f"{name}:80:{address}")
        found = site.cluster.inside("curl", "--silent", "--max-time", "10", *resolve, *more, f"http://{name}{path}")
        return found.stdout

    assert curl("/api/v1/flows", "--output", "/dev/null", "--write-out", "%{http_code}") == "401"
    assert "Open the address" in curl("/")
    assert curl("/?token=wrong-token-altogether", "--output", "/dev/null", "--write-out", "%{http_code}") == "401"
    assert curl(f"/?token={TOKEN}", "--output", "/dev/null", "--write-out", "%{http_code}") == "303"
    said = site.cluster.kubectl("logs", "--namespace", NAMESPACE, "flows-tierflow-sink-0", "--container", "console")
    assert TOKEN not in said.stdout


def test_the_storefronts_policies_are_in_the_cluster_as_calicos_kinds(site: Site) -> None:
    kinds = "tiers,globalnetworkpolicies,stagedglobalnetworkpolicies,globalnetworksets"
    names = {
        item["metadata"]["name"]
        for item in site.items(f"{kinds.replace(',', '.projectcalico.org,')}.projectcalico.org")
    }
    assert {"security", "platform", "security.pass", "platform.logging", "public-ip-range"} <= names
    said = site.cluster.kubectl("apply", "--dry-run=server", "--filename", str(STOREFRONT / "42-default.yaml")).stdout
    assert said.count("unchanged (server dry run)") == 3


def test_the_enforcer_has_one_capability_and_its_rules_are_on_the_node(site: Site) -> None:
    pod = site.items("pods", "--namespace", "storefront-enforcer")[0]["metadata"]["name"]
    status = site.cluster.kubectl(
        "exec", "--namespace", "storefront-enforcer", pod, "--", "cat", "/proc/1/status"
    ).stdout
    assert f"CapEff:\t{1 << NEEDED['CAP_NET_ADMIN']:016x}" in status
    table = json.loads(site.cluster.inside("nft", "-j", "list", "table", "ip", "tierflow_policy").stdout)["nftables"]
    comments = {entry["rule"].get("comment", "") for entry in table if "rule" in entry}
    assert "default.trusted ingress 2" in {comment.removeprefix("storefront/") for comment in comments}
