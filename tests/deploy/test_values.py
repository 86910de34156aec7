"""The chart's values: those that are wrong are refused by name, settings are those of the real commands."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click
import pytest
import yaml

from tests.deploy.rendering import CHART, EVERYTHING, pods, rendered, resolve, template
from tests.services.helm import helm as helm
from tierflow.cli.settings import SecretOption

if TYPE_CHECKING:
    from tests.deploy.rendering import Object

STAGES = {
    "collector": ["collect"],
    "inventory": ["inventory"],
    "stream": ["stream"],
    "sink": ["sink duckdb", "sink elasticsearch"],
    "console": ["console"],
}
FOR_ONE_MACHINE = {"FILE", "SEED", "KUBECONFIG", "MANIFESTS", "DATABASE", "LISTEN", "STORE"}
"""Settings that have no place in a pod: other sources, a file or socket elsewhere."""


def options(component: str) -> list[click.Option]:
    """What a component's commands take by variable."""
    found = [resolve(stage.split())[0] for stage in STAGES[component]]
    assert all(found)
    params = [each for command_ in found if command_ is not None for each in command_.params]
    return [each for each in params if isinstance(each, click.Option) and each.envvar]


@pytest.mark.parametrize("component", STAGES)
def test_settings_take_every_variable_of_the_stage_but_secrets_and_those_that_the_chart_gives(
    helm: str, component: str
) -> None:
    known = {str(option.envvar) for option in options(component) if not isinstance(option, SecretOption)}
    given = {f"TIERFLOW_{name}" for name in FOR_ONE_MACHINE}
    authentications = [("production", f"store.elasticsearch.authentication={each}") for each in ("password", "apiKey")]
    for profile, authentication in (("trial", "kafka.topics.prefix=a."), *authentications):
        for found_component, spec in pods(
            rendered(helm, profile, *EVERYTHING, authentication, "console.tokenSecret=page", "kafka.topics.prefix=a.")
        ):
            if found_component not in (component, "sink"):
                continue
            for container in (each for each in spec["containers"] if each["name"] == component):
                given |= {entry["name"] for entry in container["env"]}
                flags = (argument.split("=")[0] for argument in container["args"] if argument.startswith("--"))
                given |= {"TIERFLOW_" + flag.removeprefix("--").replace("-", "_").upper() for flag in flags}
    schema = json.loads((CHART / "values.schema.json").read_text())
    settings = schema["properties"][component]["properties"]["settings"]
    assert sorted(known - given) == list(settings["properties"])
    assert settings["additionalProperties"] is False


@pytest.mark.parametrize("component", STAGES)
def test_a_settings_bounds_and_choices_are_those_of_its_flag(component: str) -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    settings = schema["properties"][component]["properties"]["settings"]["properties"]
    seen = set()
    for option in (each for each in options(component) if str(each.envvar) in settings):
        described, kind = settings[str(option.envvar)], option.type
        seen.add(str(option.envvar))
        if isinstance(kind, click.Choice):
            assert described["enum"] == list(kind.choices)
        elif isinstance(kind, click.IntRange | click.FloatRange):
            whole = isinstance(kind, click.IntRange)
            # A file of values may quote a number, as the environment does.
            assert described["type"] == ["integer" if whole else "number", "string"]
            assert described["pattern"] == ("^[0-9]+$" if whole else r"^[0-9]+(\.[0-9]+)?$")
            assert (described["minimum"], described.get("maximum")) == (kind.min, kind.max)
        else:
            assert described["type"] == ["string", "number", "boolean"]
    assert seen == set(settings)


def test_settings_reach_the_stage_whatever_their_type(helm: str) -> None:
    settings = ("sink.settings.TIERFLOW_MAX_BYTES=17179869184", "sink.settings.TIERFLOW_RETENTION_HOURS=0.5")
    spec = dict(pods(rendered(helm, "trial", *settings)))["sink"]
    (container,) = [each for each in spec["containers"] if each["name"] == "sink"]
    given = {entry["name"]: entry.get("value") for entry in container["env"]}
    assert (given["TIERFLOW_MAX_BYTES"], given["TIERFLOW_RETENTION_HOURS"]) == ("17179869184", "0.5")


@pytest.mark.parametrize(
    ("profile", "setting", "said"),
    [
        ("trial", "stream.settings.TIERFLOW_WINDOW_S=5", "TIERFLOW_WINDOW_S"),
        ("trial", "sink.settings.TIERFLOW_RETENTION=5", "TIERFLOW_RETENTION"),
        ("production", "sink.settings.TIERFLOW_ELASTICSEARCH_PASSWORD=x", "TIERFLOW_ELASTICSEARCH_PASSWORD"),
        ("trial", "kafka.topics.prefix=a/b", "/kafka/topics/prefix"),
        ("trial", "stream.windowSeconds=0", "/stream/windowSeconds"),
        ("trial", "stream.windowSeconds=soon", "/stream/windowSeconds"),
        ("trial", "store.kind=mysql", "'elasticsearch', 'duckdb'"),
        ("trial", "collector.privileged=true", "additional properties 'privileged' not allowed"),
        ("trial", "collector.capabilities={SYS_ADMIN}", "/collector/capabilities/0"),
        ("trial", "collector.intervalSeconds=0.01", "/collector/intervalSeconds"),
        ("trial", "inventory.aggregatedNames=workload", "'calico', 'owner'"),
        ("trial", "inventory.privateRanges={wide}", 'inventory.privateRanges: "wide" is none of upstream, wider'),
        ("trial", "inventory.privateRanges={upstream,10.0.0.0}", '"10.0.0.0" is none of'),
        ("trial", "inventory.privateRanges={10.0.0.0/40}", '"10.0.0.0/40" is none of'),
        ("trial", "inventory.privateRanges={300.0.0.0/8}", '"300.0.0.0/8" is none of'),
        ("trial", "inventory.privateRanges={}", 'inventory.privateRanges: "" is none of'),
        ("trial", "inventory.privateRanges=upstream", "/inventory/privateRanges"),
        ("trial", "console.port=70000", "/console/port"),
        ("trial", "console.allowedHosts={http://flows}", "/console/allowedHosts/0"),
        ("trial", "collector.maxConversations=10", "/collector/maxConversations"),
        ("trial", "collector.handOver=later", "/collector/handOver"),
        ("trial", "kafka.bootstrapServers=kafka:9092", "exclude each other"),
        ("production", "kafka.bootstrapServers=kafka", "/kafka/bootstrapServers"),
        ("production", "kafka.bootstrapServers=", "kafka.bootstrapServers: give host:port"),
        ("production", "kafka.sasl.mechanism=GSSAPI", "/kafka/sasl/mechanism"),
        ("production", "kafka.sasl.secret=", "kafka.sasl.secret: name the Secret"),
        ("production", "kafka.sasl.mechanism=", "kafka.sasl.mechanism: give PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512"),
        ("production", "kafka.tls.enabled=false", "kafka.tls.caSecret is given, kafka.tls.enabled is not"),
        ("production", "kafka.bootstrapServers=kafka:99999", "port 99999 of kafka:99999 isn't one of 1 to 65535"),
        ("production", "store.elasticsearch.url=http://elasticsearch:9200", "store.elasticsearch.url is http://"),
        ("production", "store.elasticsearch.index=flows-{day}", "store.elasticsearch.index: flows-{day} lacks {kind}"),
        ("production", "stream.autoscaling.minReplicas=9", "minReplicas: 9 is more than maxReplicas, 8"),
        ("production", "stream.resources.requests.cpu=null", "stream.resources.requests.cpu: give it"),
        ("production", "console.tokenSecret=", "console.tokenSecret: name a Secret with the key token"),
        ("trial", "console.ingress.enabled=true,console.enabled=false", "there is no page to lead to"),
        ("trial", "metrics.port=8080", "metrics.port: 8080 is the page's"),
        ("trial", "collector.capabilities={BPF,NET_ADMIN}", "collector.capabilities: PERFMON is missing"),
        ("trial", "collector.tolerations[0].operator=Exist", "'Exists', 'Equal'"),
        ("trial", "podLabels.helm\\.sh/chart=mine", "podLabels: helm.sh/chart is the chart's own label"),
        ("trial", "podLabels.team=a b", "/podLabels/team"),
        ("trial", "nameOverride=My_App", "/nameOverride"),
        ("trial", f"nameOverride={'a' * 38}", "has 44 characters, 42 are accepted"),
        ("trial", "image.registry=https://registry.example", "/image/registry"),
        ("trial", "image.tag=v 1", "/image/tag"),
        ("trial", "networkPolicy.from[0].cidr=10.0.0.0/8", "additional properties 'cidr' not allowed"),
        ("trial", "sink.settings.TIERFLOW_LOG_FORMAT=yaml", "'json', 'text'"),
        ("trial", "sink.settings.TIERFLOW_RETENTION_HOURS=-1", "/sink/settings/TIERFLOW_RETENTION_HOURS': minimum"),
        ("trial", "stream.settings.TIERFLOW_BUFFER_MIB=32Mi", "/stream/settings/TIERFLOW_BUFFER_MIB"),
        ("production", "store.elasticsearch.authentication=kerberos", "'password', 'apiKey'"),
        ("production", "store.elasticsearch.url=", "store.elasticsearch.url: give https://host:port"),
        ("production", "console.ingress.enabled=true", "console.ingress.host: give the host name"),
    ],
)
def test_a_wrong_value_is_refused_by_name(helm: str, profile: str, setting: str, said: str) -> None:
    done = template(helm, profile, setting)
    assert done.returncode != 0
    assert said in done.stderr


@pytest.mark.parametrize(
    "name", ["", "east", "arn:aws:eks:eu-west-1:123456789012:cluster/east", "east side", "-east", "a" * 254]
)
def test_a_clusters_name_is_what_the_collector_takes(helm: str, name: str) -> None:
    (option,) = [each for each in options("collector") if each.name == "cluster"]
    try:
        option.type.convert(name, option, None)
        taken = True
    except click.BadParameter:
        taken = False
    assert (template(helm, "trial", f"cluster={name}").returncode == 0) == taken


def test_several_pages_need_a_token_in_common_and_one_does_not(helm: str) -> None:
    one = dict(pods(rendered(helm, "production", "console.tokenSecret=", "console.replicas=1")))
    assert not any(each.startswith("--token-file") for each in one["console"]["containers"][0]["args"])
    assert template(helm, "production", "console.tokenSecret=", "console.enabled=false").returncode == 0


def test_the_defaults_alone_ask_for_a_kafka(helm: str) -> None:
    assert "kafka.bootstrapServers: give host:port of your Kafka" in template(helm, None).stderr


def test_the_schema_describes_exactly_the_values_there_are() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())

    def same(described: Object, values: Object, path: str) -> None:
        properties = described.get("properties")
        # A stage's settings are its flags', above.
        if properties is None or not isinstance(values, dict) or path.endswith(".settings"):
            return
        assert set(properties) - {"global"} == set(values), path
        assert described["additionalProperties"] is False, path
        for key, value in values.items():
            same(properties[key], value, f"{path}.{key}")

    same(schema, yaml.safe_load((CHART / "values.yaml").read_text()), "")
