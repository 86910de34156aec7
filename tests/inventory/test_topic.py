"""The topic on a broker: what is written is read, one message at a time or from the start; and the command line."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
import uuid
from datetime import UTC, datetime
from types import MappingProxyType
from typing import TYPE_CHECKING

import pytest
import yaml

from tests.guard import spawn
from tests.inventory.follower import holder
from tests.inventory.test_history import pod as content
from tests.inventory.test_manifests import pod
from tests.services.kubernetes import ADMIN_TOKEN, Cluster
from tests.services.kubernetes import cluster as cluster
from tierflow.cli.inventory_show import answer
from tierflow.inventory.address_ranges import WIDER_PRIVATE
from tierflow.inventory.history import History
from tierflow.inventory.publish import take_over
from tierflow.inventory.topic import PUBLISHED, REJECTED, Publisher, Reader
from tierflow.inventory.versions import Versions
from tierflow.schemas.clock import NS_PER_S
from tierflow.schemas.errors import RejectedRecord
from tierflow.schemas.inventory import (
    ENDPOINT,
    SETTINGS,
    Heartbeat,
    Message,
    ObjectVersion,
    Tombstone,
    decode_message,
    encode_message,
)
from tierflow.schemas.metrics import Metrics
from tierflow.schemas.record import address_halves
from tierflow.schemas.topics import INVENTORY

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

VERSION = ObjectVersion(ENDPOINT, "Pod/shop/web", 5, None, {"addresses": ["10.0.0.1"]})


@pytest.mark.parametrize("message", [VERSION, Heartbeat(7, "me", 3), Tombstone(ENDPOINT, "Pod/shop/web", 5)])
def test_a_message_survives_the_wire(message) -> None:
    assert decode_message(*encode_message(message)) == message


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"{", "bad_json"),
        (b"[]", "unknown_version"),
        (b'{"version":2}', "unknown_version"),
        (b'{"version":1,"kind":"pod"}', "schema"),
        (b'{"version":1,"watermark_ns":"x"}', "schema"),
        (b'{"version":1,"kind":"endpoint","key":"a","valid_from_ns":5,"valid_to_ns":4,"object":{}}', "bad_time"),
    ],
)
def test_a_message_that_cannot_be_used_is_rejected_with_its_reason(value: bytes, reason: str) -> None:
    with pytest.raises(RejectedRecord) as rejected:
        decode_message(b"", value)
    assert rejected.value.reason == reason


async def test_a_reader_gets_all_that_was_published_in_order_and_counts_what_it_rejects(broker: str) -> None:
    topic, live = INVENTORY.with_prefix(f"t{uuid.uuid4().hex}."), Metrics()
    publisher, reader = Publisher(broker, live, topic), Reader(broker, live, topic)
    await publisher.start()
    messages = [VERSION, Heartbeat(7, "me", 3), ObjectVersion(ENDPOINT, "Pod/shop/web", 5, 9, VERSION.object)]
    await publisher.publish(messages)
    await publisher._producer.send_and_wait(topic.name, value=b"{", key=b"x", partition=0)
    await publisher.stop()
    read: list[object] = []
    await reader.start()
    await reader.catch_up(read.append)
    await reader.stop()
    assert read == messages
    assert live.value(PUBLISHED) == 3
    assert live.value(REJECTED, reason="bad_json") == 1
    versions = Versions()
    assert await take_over(Reader(broker, live, topic), versions) == 3
    assert versions.keys(ENDPOINT) == set()


def tierflow(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "tierflow.cli.main", *arguments]


def start(log: Path, *arguments: str, variables: Mapping[str, str] = MappingProxyType({})) -> subprocess.Popen[bytes]:
    with log.open("wb") as output:
        return spawn(
            tierflow("inventory", *arguments), stderr=output, start_new_session=True, env=os.environ | variables
        )


def wait_for(log: Path, text: str) -> None:
    give_up = time.monotonic() + 120
    while text not in log.read_text():
        assert time.monotonic() < give_up, f"{text!r} is not in: {log.read_text()}"
        time.sleep(0.05)


def test_the_command_publishes_a_folder_and_show_answers_who_held_an_address(broker: str, tmp_path: Path) -> None:
    folder = tmp_path / "manifests"
    folder.mkdir()
    (folder / "web.yaml").write_text(yaml.safe_dump(pod("web", metadata={"creationTimestamp": "2026-01-31T12:00:00Z"})))
    prefix, log = f"t{uuid.uuid4().hex}.", tmp_path / "log"
    range_flags = ["--private-range", "wider", "--private-range", "203.0.113.0/24"]
    process = start(log, "--manifests", str(folder), "--kafka", broker, "--topic-prefix", prefix, *range_flags)
    try:
        wait_for(log, "ready")
        show = ["inventory", "show", "--kafka", broker, "--topic-prefix", prefix, "--address", "10.0.0.1"]
        now = subprocess.run(tierflow(*show), capture_output=True, text=True, check=True).stdout
        assert now.startswith("wep shop/web\n")
        before = subprocess.run(
            tierflow(*show, "--at", "2026-01-31T11:59:59Z"), capture_output=True, text=True, check=True
        ).stdout
        assert before.startswith("not known: the retained past begins at ")
        for address, kind in (("fd00::9", "private"), ("203.0.113.7", "private"), ("8.8.8.8", "public")):
            show[-1] = address
            said = subprocess.run(tierflow(*show), capture_output=True, text=True, check=True).stdout
            assert said == f"nobody known; a {kind} address\n"
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0


def test_a_kubeconfig_that_cant_be_used_ends_the_command_with_one_line(broker: str, tmp_path: Path) -> None:
    none = tmp_path / "kubeconfig"
    none.write_text("a: 1")
    flags = ["--kafka", broker, "--kubernetes", "--kubeconfig", str(none)]
    done = subprocess.run(tierflow("inventory", *flags), capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert f"--kubeconfig {none}: " in done.stderr
    assert "Traceback" not in done.stderr


VARIABLES = {"TIERFLOW_AGGREGATED_NAMES": "owner", "TIERFLOW_PRIVATE_RANGE": "wider 203.0.113.0/24"}
FILE = """private_range = ["wider", "203.0.113.0/24"]
[inventory]
aggregated_names = "owner"
"""


@pytest.mark.parametrize("by", ["variables", "file"])
async def test_names_and_private_ranges_are_settings_like_all_others(broker: str, tmp_path: Path, by: str) -> None:
    folder, config, log = tmp_path / "manifests", tmp_path / "tierflow.toml", tmp_path / "log"
    folder.mkdir()
    owner = {"controller": True, "kind": "StatefulSet", "name": "db", "apiVersion": "apps/v1", "uid": "1"}
    (folder / "db.yaml").write_text(yaml.safe_dump(pod("db-0", metadata={"ownerReferences": [owner]})))
    config.write_text(FILE)
    topic = INVENTORY.with_prefix(f"t{uuid.uuid4().hex}.")
    arguments = [
        "--manifests",
        str(folder),
        "--kafka",
        broker,
        "--topic-prefix",
        topic.name.removesuffix(INVENTORY.name),
    ]
    process = start(log, *arguments, variables=VARIABLES if by == "variables" else {"TIERFLOW_CONFIG": str(config)})
    reader = Reader(broker, Metrics(), topic)
    read: list[Message] = []
    try:
        await asyncio.to_thread(wait_for, log, "ready")
        await reader.start()
        await reader.catch_up(read.append)
    finally:
        await reader.stop()
        process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(process.wait, 30) == 0
    said = {each.kind: each.object for each in read if isinstance(each, ObjectVersion)}
    assert said[ENDPOINT]["name_aggr"] == "db-*"
    assert said[SETTINGS]["private_prefixes"] == [*WIDER_PRIVATE, "203.0.113.0/24"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "give either --manifests FOLDER or --kubernetes"),
        (["--manifests", ".", "--kubernetes"], "give either --manifests FOLDER or --kubernetes"),
        (["--kubernetes", "--lease", "x"], "--lease x: accepted is NAMESPACE/NAME"),
        (["--manifests", ".", "--private-range", "10.0.0.1/8"], "--private-range 10.0.0.1/8: accepted are upstream,"),
        (["show", "--address", "10.0.0.1", "--at", "-5"], "--at -5: accepted is a time from 1970 to 2200"),
        (["show", "--address", "10.0.0.1", "--at", "nan"], "--at nan: accepted is a time from 1970 to 2200"),
        (["show", "--address", "web"], "--address web: accepted is an IPv4 or IPv6 address"),
        (["show", "--address", "10.0.0.1", "--at", "noon"], "--at noon: accepted is a time from 1970 to 2200 such as"),
    ],
)
def test_a_wrong_flag_is_one_line(arguments: list[str], said: str) -> None:
    done = subprocess.run(tierflow("inventory", *arguments), capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def test_show_says_that_nothing_has_been_published(broker: str) -> None:
    show = ["inventory", "show", "--kafka", broker, "--topic-prefix", f"t{uuid.uuid4().hex}.", "--address", "10.0.0.1"]
    done = subprocess.run(tierflow(*show), capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert "the inventory is empty: has `tierflow inventory` run there?" in done.stderr


HOUR = 3600 * NS_PER_S
SERVICE = {
    "name": "web", "namespace": "shop", "addresses": ["10.96.0.1"], "manifest": {"spec": {"ports": [{"port": 80}]}},
    "ports": [{"name": "", "protocol": 6, "port": 80, "node_port": 0}],
}  # fmt: skip
OFFICE = {"metadata": {"name": "office"}, "spec": {"nets": ["198.51.100.0/24"]}}


@pytest.mark.parametrize(
    ("address", "at", "said"),
    [
        ("10.0.0.1", 5 * HOUR, ["wep shop/web", "  to                now"]),
        ("10.0.0.1", 3 * HOUR, ["nobody known; a private address"]),
        ("8.8.8.8", 5 * HOUR, ["nobody known; a public address"]),
        ("8.8.8.8", 6 * HOUR, ["nobody known; a public address", "(the inventory knows up to 1970-01-01T05:"]),
        ("10.96.0.1", 5 * HOUR, ["service shop/web"]),
        ("198.51.100.7", 5 * HOUR, ["network set -/office"]),
        ("10.0.0.9", HOUR, ["not known: the retained past begins at 1970-01-01T02:"]),
        ("10.0.0.2", HOUR, ["wep shop/old", "(the retained past begins at 1970-01-01T02:"]),
    ],
)
def test_show_says_who_or_what_it_was_and_how_far_that_is_known(address: str, at: int, said: list[str]) -> None:
    history = History(retention_ns=3 * HOUR)
    for version in (
        ObjectVersion(ENDPOINT, "old", 0, None, content("old", ["10.0.0.2"])),
        ObjectVersion(ENDPOINT, "web", 4 * HOUR, None, content("web", ["10.0.0.1"])),
        ObjectVersion("service", "web", 0, None, SERVICE),
        ObjectVersion("network-set", "office", 0, None, OFFICE),
        Heartbeat(5 * HOUR + NS_PER_S, "me", 1),
    ):
        history.apply(version)
    lines = list(answer(history, *address_halves(address), at))
    assert all(any(line.startswith(each) for line in lines) for each in said), lines


@pytest.mark.service("kubernetes")
async def test_a_standby_takes_over_from_a_killed_publisher_without_a_gap_or_a_repeat(
    broker: str, cluster: Cluster, tmp_path: Path
) -> None:
    prefix = f"t{uuid.uuid4().hex}."
    kubeconfig = str(cluster.kubeconfig("admin", ADMIN_TOKEN))
    common = ["--kubernetes", "--kubeconfig", kubeconfig, "--lease", "default/inventory", "--kafka", broker]
    logs = [tmp_path / "first", tmp_path / "second"]
    cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}})
    run_pod(cluster, "old")
    first = start(logs[0], *common, "--topic-prefix", prefix)
    processes = [first]
    try:
        wait_for(logs[0], "ready")
        processes.append(start(logs[1], *common, "--topic-prefix", prefix))
        wait_for(logs[1], "standby")
        held_by_old = time.time_ns()
        os.killpg(first.pid, signal.SIGKILL)
        # While nobody publishes, for the 15 s of the lease: a namespace is made, and an address gets another pod.
        cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "late"}})
        cluster.call("DELETE", "/api/v1/namespaces/shop/pods/old", {"gracePeriodSeconds": 0})
        await asyncio.to_thread(wait_for_the_second_after, held_by_old)
        run_pod(cluster, "new")
        held_by_new = time.time_ns()
        wait_for(logs[1], "ready")
    finally:
        for process in processes:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=30)
    messages: list[object] = []
    reader = Reader(broker, Metrics(), INVENTORY.with_prefix(prefix))
    await reader.start()
    await reader.catch_up(messages.append)
    await reader.stop()
    versions = [each for each in messages if isinstance(each, ObjectVersion)]
    keys = [each.key for each in versions if each.valid_to_ns is None]
    assert len(keys) == len(set(keys)), "the standby repeated what had been published"
    assert "Namespace//late" in keys
    assert {each.epoch for each in messages if isinstance(each, Heartbeat)} == {1, 2}
    history = History()
    for message in messages:
        history.apply(message)
    assert history.snapshot().policy_versions[-1].namespaces.keys() >= {"shop", "late", "default"}
    held = [holder(history.snapshot(), "10.244.0.2", at) for at in (held_by_old, held_by_new)]
    assert [each.endpoint.name for each in held if each is not None] == ["old", "new"]


def wait_for_the_second_after(time_ns: int) -> None:
    """The kubelet tells a begin in whole seconds."""
    while time.time_ns() // NS_PER_S == time_ns // NS_PER_S:
        time.sleep(0.01)


def run_pod(cluster: Cluster, name: str) -> None:
    spec = {"containers": [{"name": "main", "image": "none"}], "nodeName": "node-1"}
    metadata = {"name": name, "namespace": "shop"}
    cluster.create({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
    # As the kubelet tells it: in whole seconds.
    started = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    status = {"phase": "Running", "podIP": "10.244.0.2", "startTime": started}
    cluster.call("PATCH", f"/api/v1/namespaces/shop/pods/{name}/status", {"status": status})
