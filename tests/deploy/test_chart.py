"""The chart renders with each profile, keeps to least privilege, and speaks the real command line."""

from __future__ import annotations

import subprocess

import click
import pytest
import yaml

from tests.conftest import absent
from tests.deploy.rendering import CHART, EVERYTHING, PROFILES, pods, rendered, resolve
from tests.services.helm import helm as helm


@pytest.mark.parametrize("profile", PROFILES)
def test_lint_finds_nothing(helm: str, profile: str) -> None:
    done = subprocess.run(
        [helm, "lint", "--strict", str(CHART), "--values", str(CHART / "profiles" / f"{profile}.yaml")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("profile", PROFILES)
def test_every_container_has_a_read_only_root_and_named_capabilities_only(helm: str, profile: str) -> None:
    seen = 0
    for component, spec in pods(rendered(helm, profile, *EVERYTHING)):
        assert not spec.get("hostPID")
        assert not spec.get("hostIPC")
        assert bool(spec.get("hostNetwork")) == (component == "collector")
        assert spec["automountServiceAccountToken"] == (component == "inventory")
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in spec["containers"]:
            context = container["securityContext"]
            assert "privileged" not in context
            assert context["allowPrivilegeEscalation"] is False
            assert context["readOnlyRootFilesystem"] is True
            assert context["capabilities"]["drop"] == ["ALL"]
            added = context["capabilities"].get("add", [])
            assert added == (["BPF", "NET_ADMIN", "PERFMON"] if component == "collector" else [])
            assert (component == "collector") or spec["securityContext"]["runAsNonRoot"] is True
            assert {"cpu", "memory"} <= set(container["resources"]["requests"])
            assert "memory" in container["resources"]["limits"]
            seen += 1
    assert seen >= 6


@pytest.mark.parametrize("profile", PROFILES)
def test_every_pod_has_its_own_service_account_and_only_the_inventory_has_rights(helm: str, profile: str) -> None:
    documents = rendered(helm, profile)
    accounts = {document["metadata"]["name"] for document in documents if document["kind"] == "ServiceAccount"}
    assert {spec["serviceAccountName"] for _, spec in pods(documents)} == accounts
    subjects = [s["name"] for d in documents if d["kind"].endswith("RoleBinding") for s in d["subjects"]]
    assert subjects == ["flows-tierflow-inventory"] * 2


def test_no_rule_names_a_wildcard_or_a_secret(helm: str) -> None:
    rules = [rule for d in rendered(helm, "trial") if d["kind"] in ("ClusterRole", "Role") for rule in d["rules"]]
    assert rules
    for rule in rules:
        words = [*rule["apiGroups"], *rule["resources"], *rule["verbs"]]
        assert "*" not in words
        assert "secrets" not in words
    reading = [rule["verbs"] for rule in rules if "leases" not in rule["resources"]]
    assert all(verbs == ["list", "watch"] for verbs in reading)


@pytest.mark.parametrize("profile", PROFILES)
def test_each_selector_selects_its_own_template_and_each_service_finds_pods(helm: str, profile: str) -> None:
    documents = rendered(helm, profile, *EVERYTHING)
    templates = [d["spec"]["template"]["metadata"]["labels"] for d in documents if "template" in d.get("spec", {})]
    for document in documents:
        if document["kind"] in ("Deployment", "DaemonSet", "StatefulSet"):
            wanted = document["spec"]["selector"]["matchLabels"].items()
            assert wanted <= document["spec"]["template"]["metadata"]["labels"].items()
            assert sum(wanted <= labels.items() for labels in templates) == 1
        if document["kind"] == "Service":
            assert any(document["spec"]["selector"].items() <= labels.items() for labels in templates)
        if document["kind"] == "PodDisruptionBudget":
            wanted = document["spec"]["selector"]["matchLabels"].items()
            assert any(wanted <= labels.items() for labels in templates)


def command_lines(helm: str) -> list[tuple[str, list[str], list[str]]]:
    """Component, arguments and names of TIERFLOW_ variables of every container of every profile."""
    lines = []
    for profile in PROFILES:
        for component, spec in pods(rendered(helm, profile)):
            for container in spec["containers"]:
                names = [entry["name"] for entry in container["env"] if entry["name"].startswith("TIERFLOW_")]
                lines.append((f"{profile}/{component}/{container['name']}", container["args"], names))
    return lines


@pytest.mark.parametrize(
    "stage",
    ["broker", "topics", "collect", "inventory", "stream", "sink duckdb", "sink elasticsearch", "console"],
)
def test_the_real_command_accepts_every_argument_and_variable_of_the_chart(helm: str, stage: str) -> None:
    words = stage.split()
    lines = [line for line in command_lines(helm) if line[1][: len(words)] == words]
    assert lines, f"no container runs {stage}"
    for where, arguments, variables in lines:
        found, rest = resolve(arguments)
        if found is None:
            absent(f"tierflow {stage} isn't part of this checkout")
        assert found is not None
        context = click.Context(found, info_name=stage)
        # $(NODE_NAME) and the like are the kubelet's to fill in; to click they are text like any other.
        found.make_parser(context).parse_args(list(rest))
        options = {option for parameter in found.params for option in parameter.opts}
        for argument in rest:
            assert argument.split("=")[0] in options, f"{where}: {argument}"
        known = {str(parameter.envvar) for parameter in found.params} | {"TIERFLOW_STATE"}
        assert set(variables) <= known, f"{where}: {sorted(set(variables) - known)}"


def test_names_and_private_ranges_reach_the_inventory(helm: str) -> None:
    settings = ("inventory.aggregatedNames=owner", "inventory.privateRanges={wider,203.0.113.0/24,2001:db8::/32}")
    (container,) = dict(pods(rendered(helm, "production", *settings)))["inventory"]["containers"]
    wanted = ["wider", "203.0.113.0/24", "2001:db8::/32"]
    assert [each for each in container["args"] if "aggregated" in each] == ["--aggregated-names=owner"]
    assert [each for each in container["args"] if "private" in each] == [f"--private-range={each}" for each in wanted]
    (container,) = dict(pods(rendered(helm, "production")))["inventory"]["containers"]
    assert {"--aggregated-names=calico", "--private-range=upstream"} <= set(container["args"])


def test_a_prefix_of_topics_reaches_every_stage(helm: str) -> None:
    for component, spec in pods(rendered(helm, "production", "kafka.topics.prefix=east.")):
        for container in spec["containers"]:
            given = {entry["name"]: entry.get("value") for entry in container["env"]}
            assert given["TIERFLOW_TOPIC_PREFIX"] == "east.", component


def test_the_page_answers_to_its_own_names_with_a_token_from_a_secret_that_is_in_no_argument(helm: str) -> None:
    settings = ("console.tokenSecret=page", "console.allowedHosts={flows.lan}", *EVERYTHING)
    for profile in PROFILES:
        specs = [
            spec for component, spec in pods(rendered(helm, profile, *settings)) if component in ("sink", "console")
        ]
        (spec,) = [each for each in specs if any(container["name"] == "console" for container in each["containers"])]
        (container,) = [each for each in spec["containers"] if each["name"] == "console"]
        hosts = {each.removeprefix("--allow-host=") for each in container["args"] if each.startswith("--allow-host=")}
        assert {"flows-tierflow-console.tierflow.svc", "flows.example", "flows.lan"} <= hosts
        assert "--token-file=/etc/tierflow/console/token" in container["args"]
        assert [volume["secret"] for volume in spec["volumes"] if volume["name"] == "console-token"] == [
            {"secretName": "page"}
        ]


def test_chart_plain_role_and_the_storefronts_enforcer_read_the_same_objects(helm: str) -> None:
    deploy = CHART.parents[1]
    plain = list(yaml.safe_load_all((deploy / "rbac" / "inventory-clusterrole.yaml").read_text()))
    enforcer = list(yaml.safe_load_all((deploy / "storefront" / "enforcer" / "enforcer.yaml").read_text()))
    roles = [
        next(document["rules"] for document in documents if document["kind"] == "ClusterRole")
        for documents in (rendered(helm, "trial"), plain, enforcer)
    ]
    assert roles[0] == roles[1] == roles[2]


def test_production_speaks_tls_and_sasl_by_secrets_and_no_secret_is_in_an_argument(helm: str) -> None:
    specs = dict(pods(rendered(helm, "production")))
    for component in ("collector", "inventory", "stream", "sink", "console", "topics"):
        names = {volume["secret"]["secretName"] for volume in specs[component]["volumes"] if "secret" in volume}
        assert {"tierflow-kafka-ca", "tierflow-kafka"} <= names, component
    assert "broker" not in specs


@pytest.mark.parametrize(
    ("kind", "variable", "other"), [("password", "PASSWORD", "API_KEY"), ("apiKey", "API_KEY", "PASSWORD")]
)
def test_elasticsearchs_secret_is_a_mounted_file_so_that_a_rotated_one_is_read_again(
    helm: str, kind: str, variable: str, other: str
) -> None:
    specs = dict(pods(rendered(helm, "production", f"store.elasticsearch.authentication={kind}")))
    for component in ("sink", "console"):
        (container,) = specs[component]["containers"]
        (mount,) = [each for each in container["volumeMounts"] if each["name"] == "elasticsearch"]
        (volume,) = [each for each in specs[component]["volumes"] if each["name"] == "elasticsearch"]
        assert volume["secret"] == {"secretName": "tierflow-elasticsearch", "items": [{"key": kind, "path": kind}]}
        given = {entry["name"]: entry.get("value") for entry in container["env"]}
        assert given[f"TIERFLOW_ELASTICSEARCH_{variable}_FILE"] == f"{mount['mountPath']}/{kind}"
        assert not [name for name in given if f"ELASTICSEARCH_{other}" in name]
        keys = [entry["valueFrom"]["secretKeyRef"]["key"] for entry in container["env"] if "valueFrom" in entry]
        assert keys == (["username"] if kind == "password" else [])


def test_a_topics_job_that_is_to_do_something_else_has_another_name_even_without_revisions(helm: str) -> None:
    def name(*settings: str) -> str:
        (job,) = [each for each in rendered(helm, "production", *settings) if each["kind"] == "Job"]
        return str(job["metadata"]["name"])

    first = name()
    assert first.startswith("flows-tierflow-topics-1-")
    assert name("stream.windowSeconds=60") == first
    assert (
        len({first, name("image.tag=0.2.0"), name("kafka.topics.prefix=east."), name("kafka.topics.mode=check")}) == 4
    )


def test_no_drain_waits_for_pods_that_are_not_ready(helm: str) -> None:
    budgets = [each for each in rendered(helm, "production") if each["kind"] == "PodDisruptionBudget"]
    components = {each["metadata"]["labels"]["app.kubernetes.io/component"] for each in budgets}
    assert components == {"inventory", "stream", "sink", "console"}
    assert all(each["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow" for each in budgets)
    assert not [each for each in rendered(helm, "trial") if each["kind"] == "PodDisruptionBudget"]
