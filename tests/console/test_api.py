"""The API: who may ask, what it answers, and that no input breaks it."""

from __future__ import annotations

import json
import random
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlencode

import httpx
import jsonschema
import pytest
from openapi_spec_validator import validate
from tests.console.serving import TOKEN, Scene, serve
from tests.console.storefront import in_force

from tierflow.console.server.app import console_app
from tierflow.console.server.board import board
from tierflow.console.server.covered import covered_s
from tierflow.console.server.openapi import OPERATIONS, document
from tierflow.console.server.session import PrintedTokenSessions, SharedTokenSessions
from tierflow.schemas.clock import SystemClock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from starlette.applications import Starlette

    from tierflow.sinks.read.interface import Store


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    folder: Path = tmp_path_factory.mktemp("console")
    made = Scene(folder)
    made.rogue = True
    made.fill(int(time.time()), windows=12)
    return made


@pytest.fixture
def stranger(scene: Scene) -> Iterator[httpx.Client]:
    with serve(scene.app()) as address, httpx.Client(base_url=address, trust_env=False, timeout=30) as client:
        yield client


@pytest.fixture
def client(stranger: httpx.Client) -> httpx.Client:
    assert stranger.get("/", params={"token": TOKEN}).status_code == 303
    return stranger


def test_the_document_is_valid_openapi() -> None:
    validate(document())


def test_without_a_session_nothing_is_told(stranger: httpx.Client) -> None:
    for each in OPERATIONS:
        assert stranger.request(each.method.upper(), each.path).status_code == 401
    assert stranger.get("/flows").status_code == 401
    assert stranger.get("/", params={"token": "wrong"}).status_code == 401


def test_the_session_cookie_is_out_of_reach_for_scripts_and_other_sites(stranger: httpx.Client) -> None:
    cookie = stranger.get("/", params={"token": TOKEN}).headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "samesite=strict" in cookie.lower()


def test_a_printed_token_opens_one_session_and_the_next_one_another(scene: Scene) -> None:
    fresh = iter(["second", "third"])
    app = console_app(
        scene.store, scene, PrintedTokenSessions("first", lambda: next(fresh)), SystemClock(), scene.settings
    )
    with serve(app) as address:

        def opened(token: str, cookies: httpx.Cookies | None = None) -> httpx.Response:
            with httpx.Client(base_url=address, trust_env=False, cookies=cookies) as browser:
                return browser.get("/", params={"token": token})

        first = opened("first")
        assert first.status_code == 303
        assert opened("first").status_code == 401
        assert "console.url" in opened("first").text
        assert opened("second").status_code == 303
        # Who has a session already may open the printed address again.
        assert opened("first", first.cookies).headers["location"] == "/flows"


def test_two_consoles_on_one_host_keep_their_sessions_apart(scene: Scene) -> None:
    def app(token: str) -> Starlette:
        return console_app(scene.store, scene, SharedTokenSessions(token, SystemClock()), SystemClock(), scene.settings)

    with serve(app("one")) as one, serve(app("two")) as two, httpx.Client(trust_env=False) as browser:
        for address, token in ((one, "one"), (two, "two")):
            assert browser.get(address, params={"token": token}).status_code == 303
        assert {browser.get(f"{address}/api/v1/facets?field=action").status_code for address in (one, two)} == {200}
        assert browser.delete(f"{one}/api/v1/session", headers={"x-tierflow-csrf": "1"}).status_code == 204
        left = [browser.get(f"{address}/api/v1/facets?field=action").status_code for address in (one, two)]
        assert left == [401, 200]


def test_another_host_name_is_refused(client: httpx.Client) -> None:
    assert client.get("/api/v1/flows", headers={"host": "attacker.example"}).status_code == 421


def test_every_answer_carries_the_policy_on_content(client: httpx.Client) -> None:
    for path in ("/flows", "/api/v1/flows", "/api/v1/none"):
        policy = client.get(path).headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy


def test_an_unsafe_method_needs_the_header_and_the_own_origin(client: httpx.Client) -> None:
    assert client.delete("/api/v1/session").status_code == 403
    foreign = {"x-tierflow-csrf": "1", "origin": "http://attacker.example"}
    assert client.delete("/api/v1/session", headers=foreign).status_code == 403
    assert client.delete("/api/v1/session", headers={"x-tierflow-csrf": "1"}).status_code == 204
    assert client.get("/api/v1/flows").status_code == 401


def test_five_pods_deny_the_rogue(client: httpx.Client) -> None:
    flows = client.get("/api/v1/flows").json()["flows"]
    denied = {flow["dest"]["name"] for flow in flows if flow["source"]["name"].startswith("rogue")}
    assert len(denied) == 5
    assert {flow["status"] for flow in flows if flow["source"]["name"].startswith("rogue")} == {"denied_by_destination"}


def test_rule_2_of_trusted_denies_the_rogue(client: httpx.Client) -> None:
    policy = client.get("/api/v1/policy", params={"id": "storefront/default.trusted"}).json()
    denied = {rule["index"]: rule["rates"]["denied"]["packets"]["in"] for rule in policy["ingress"]}
    assert denied[2] > 0
    assert denied[0] == denied[1] == 0
    assert {entry["rule_index"] for entry in policy["denials"]} == {2}
    assert all(entry["source"].startswith("storefront:rogue") for entry in policy["denials"])
    assert "fw-zone" in policy["yaml"]


def test_a_tile_counts_each_replica_and_each_endpoint_that_differs() -> None:
    now = in_force(rogue=False)
    before = {tile["id"]: tile["endpoints"] for tier in board(now, [], 900, 900) for tile in tier["policies"]}
    assert before["storefront/default.trusted"] == 2
    assert before["security.quarantine"] == 0
    replicas = [replace(each, name=f"{each.name}-{copy}") for copy in range(3) for each in now.endpoints]
    thrice = replace(now, endpoints=tuple(replicas), names=now.names * 3)
    after = {tile["id"]: tile["endpoints"] for tier in board(thrice, [], 900, 900) for tile in tier["policies"]}
    assert after == {identity: 3 * endpoints for identity, endpoints in before.items()}


@pytest.mark.parametrize(
    ("oldest", "newest", "covered"),
    [
        (None, None, 900),  # empty store
        (0, 5_000, 900),  # older and newer windows than asked for
        (1_700, 1_880, 180),  # only the last three minutes are stored
        (0, 1_600, 600),  # the pipeline stopped
        (2_500, 2_600, 900),  # nothing of the range is stored
    ],
)
def test_rates_are_over_what_is_stored_of_the_range(oldest: int | None, newest: int | None, covered: int) -> None:
    assert covered_s(1_000, 1_900, oldest, newest) == covered


def test_rates_of_board_and_flows_are_their_sums_over_twelve_windows(client: httpx.Client) -> None:
    flows = client.get("/api/v1/flows").json()
    assert flows["covered_s"] == 12 * 15
    logs = client.get("/api/v1/flow-logs", params={"filter": ["action:deny"], "limit": 500}).json()["logs"]
    denied = [
        log for log in logs if log["policies.enforced_policies"][-1].endswith("storefront/default.trusted|deny|2")
    ]
    policy = client.get("/api/v1/policy", params={"id": "storefront/default.trusted"}).json()
    rule = policy["ingress"][2]["rates"]["denied"]["packets"]["in"]
    assert rule == pytest.approx(sum(log["packets_in"] for log in denied) / (12 * 15))
    tiles = [tile for tier in client.get("/api/v1/board").json()["tiers"] for tile in tier["policies"]]
    trusted = next(tile for tile in tiles if tile["id"] == "storefront/default.trusted")
    assert trusted["rates"]["denied"]["packets"]["in"] == pytest.approx(rule)


def test_the_board_has_tiers_in_order_with_endpoint_counts(client: httpx.Client) -> None:
    tiers = client.get("/api/v1/board").json()["tiers"]
    assert [tier["name"] for tier in tiers] == ["security", "platform", "default"]
    endpoints = {tile["id"]: tile["endpoints"] for tier in tiers for tile in tier["policies"]}
    assert endpoints["security.quarantine"] == 0
    assert endpoints["storefront/default.trusted"] == 2


def test_each_rule_says_when_it_was_last_hit(client: httpx.Client) -> None:
    policy = client.get("/api/v1/policy", params={"id": "storefront/default.trusted"}).json()
    hit = {rule["index"]: rule["last_evaluated_s"] for rule in policy["ingress"]}
    assert hit[2] == policy["last_evaluated_s"] == policy["newest_s"]
    assert (
        client.get("/api/v1/policy", params={"id": "security.quarantine"}).json()["ingress"][0]["last_evaluated_s"]
        is None
    )


def test_a_name_has_its_policies_in_the_order_of_evaluation(client: httpx.Client) -> None:
    named = client.get("/api/v1/endpoint", params={"namespace": "storefront", "name": "backend-55f7dc6b68-*"}).json()
    assert named["endpoints"] == 1
    assert [each["tier"] for each in named["policies"]] == sorted(
        (each["tier"] for each in named["policies"]), key=["security", "platform", "default"].index
    )
    restricted = next(each for each in named["policies"] if each["id"] == "storefront/default.restricted")
    assert restricted["directions"] == ["ingress", "egress"]
    assert "storefront/default.trusted" not in {each["id"] for each in named["policies"]}
    assert named["labels"] == ["app=backend", "fw-zone=restricted", "pod-template-hash=55f7dc6b68"]
    gone = client.get("/api/v1/endpoint", params={"namespace": "storefront", "name": "gone"}).json()
    assert gone == {"endpoints": 0, "labels": [], "policies": []}


def test_label_selectors_match_all_or_any(client: httpx.Client) -> None:
    both = ["fw-zone == 'trusted'", "fw-zone == 'restricted'"]

    def names(**match: str) -> set[str]:
        flows = client.get("/api/v1/flows", params={"dest_label": both, **match}).json()["flows"]
        return {flow["dest"]["name"].rsplit("-", 2)[0] for flow in flows}

    assert names() == names(dest_label_match="all") == set()
    assert names(dest_label_match="any") == {"microservice1", "microservice2", "backend"}


def test_labels_are_suggested(client: httpx.Client) -> None:
    values = client.get("/api/v1/facets", params={"field": "dest_labels.labels"}).json()["values"]
    assert {"fw-zone=trusted", "app=backend"} <= {each["value"] for each in values}
    assert all(each["logs"] > 0 for each in values)


class StuckStore:
    """The scene's store, whose newest window nobody gets to know until it is let go; it counts how many wait for it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.go = threading.Event()
        self.waiting = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def newest_s(self) -> int | None:
        self.waiting += 1
        self.go.wait(30)
        return self._store.newest_s()


def test_a_store_that_is_stuck_is_told_and_asked_no_more_than_its_turns(scene: Scene) -> None:
    stuck = StuckStore(scene.store)
    settings = replace(scene.settings, query_timeout_s=0.2, concurrent_queries=3)
    app = console_app(cast("Store", stuck), scene, SharedTokenSessions(TOKEN, SystemClock()), SystemClock(), settings)
    with serve(app) as address, httpx.Client(base_url=address, trust_env=False, timeout=30) as client:
        client.get("/", params={"token": TOKEN})
        answers = [client.get("/api/v1/flows") for _ in range(5)]
        assert {answer.status_code for answer in answers} == {503}
        assert "shorter time range" in answers[0].json()["detail"]
        assert stuck.waiting == 3
        stuck.go.set()
        give_up = time.monotonic() + 10
        while client.get("/api/v1/flows").status_code != 200:
            assert time.monotonic() < give_up


def test_no_more_pages_follow_live_than_are_allowed(scene: Scene) -> None:
    settings = replace(scene.settings, most_live=1)
    app = console_app(scene.store, scene, SharedTokenSessions(TOKEN, SystemClock()), SystemClock(), settings)
    with serve(app) as address, httpx.Client(base_url=address, trust_env=False, timeout=30) as client:
        client.get("/", params={"token": TOKEN})
        with client.stream("GET", "/api/v1/live") as first:
            assert first.headers["content-type"].startswith("text/event-stream")
            lines = first.iter_lines()
            assert next(lines) == "event: newest"
            assert next(lines) == f"data: {scene.store.newest_s()}"
            second = client.get("/api/v1/live")
            assert (second.status_code, second.json()["detail"]) == (503, "Too many pages are open; close one.")
            # With the session ends what follows it.
            client.delete("/api/v1/session", headers={"x-tierflow-csrf": "1"})
            assert not [line for line in lines if line.startswith("event")]


def test_what_went_missing_is_told_by_node_and_reason(client: httpx.Client, scene: Scene) -> None:
    assert client.get("/api/v1/losses").json()["losses"] == []
    scene.lose(int(time.time()), records=42)
    (loss,) = client.get("/api/v1/losses").json()["losses"]
    assert (loss["host"], loss["reason"], loss["records"]) == ("lab-node", "collector_loss", 42)
    assert client.get("/api/v1/losses", params={"from": "-100", "to": "-90"}).json()["losses"] == []


def test_leaving_a_value_out_leaves_all_others(client: httpx.Client) -> None:
    def total(*conditions: str) -> int:
        found: int = client.get("/api/v1/flow-logs", params={"filter": list(conditions)}).json()["total"]
        return found

    assert total("action:deny") > 0
    assert total("action:deny") + total("-action:deny") == total()
    assert total("-action:deny", "-action:allow") == 0


def test_pages_of_flow_logs_hold_each_once(client: httpx.Client) -> None:
    seen: list[str] = []
    cursor: str | None = None
    while True:
        page = client.get("/api/v1/flow-logs", params={"limit": 100, **({"cursor": cursor} if cursor else {})}).json()
        seen += [log["id"] for log in page["logs"]]
        cursor = page["cursor"]
        if cursor is None:
            break
    assert len(seen) == len(set(seen)) == page["total"]


def test_an_export_has_every_flow_log_and_no_formula(client: httpx.Client) -> None:
    total = client.get("/api/v1/flow-logs").json()["total"]
    lines = client.get("/api/v1/flow-logs/export", params={"format": "jsonl"}).text.splitlines()
    assert len(lines) == total
    assert json.loads(lines[0])["policies"]["enforced_policies"]
    rows = client.get("/api/v1/flow-logs/export", params={"format": "csv"}).text.splitlines()
    assert len(rows) == total + 1
    assert not any(cell.startswith(("=", "+", "@")) for row in rows for cell in row.split(","))


def test_a_wrong_parameter_is_named_with_what_is_accepted(client: httpx.Client) -> None:
    for query, word in (
        ({"from": "yesterday"}, "from"),
        ({"sort": "nothing"}, "parameter"),
        ({"filter": "colour:red"}, "filter"),
        ({"filter": "dest_port:x"}, "port"),
        ({"source_label": "a =="}, "source_label"),
        ({"from": "-10", "to": "-20"}, "from, to"),
    ):
        answer = client.get("/api/v1/flows", params=query)
        assert answer.status_code == 400
        assert word in answer.json()["detail"]


NASTY = (
    "", "0", "-1", "9" * 40, "-" * 3, "\x00", "<script>alert(1)</script>", "'; DROP TABLE flow_logs; --", "%", "_", "*",
    "a" * 600, "é🦊", "action:deny", "-action:", "namespace:*", "dest_port:99999", "dest_port:-1", "has(a) &&", "all()",
    "a == 'b' || (c in {'d'})", "NaN", "1e9", "true", "null", "[]", "../../etc/passwd", "²", "policy:%|deny|%",
    "((((((((((has(a)))))))))))", "!" * 500 + "has(a)", "(" * 500,
)  # fmt: skip


def test_no_input_breaks_the_api_and_every_answer_is_as_documented(client: httpx.Client) -> None:
    described = document()
    chance = random.Random(8)
    for each in OPERATIONS:
        if each.handler in {"live", "session"}:
            continue
        operation = described["paths"][each.path][each.method]
        names = [parameter["name"] for parameter in operation["parameters"]] + ["unknown"]
        for _ in range(40):
            chosen = chance.sample(names, chance.randint(0, min(3, len(names))))
            query = [(name, chance.choice([*NASTY, *_plausible(operation, name)])) for name in chosen]
            answer = client.get(f"{each.path}?{urlencode(query)}")
            told = operation["responses"].get(str(answer.status_code))
            assert told is not None, (each.path, query, answer.status_code, answer.text[:300])
            assert answer.status_code < 500, (each.path, query, answer.text[:300])
            if answer.headers["content-type"] == "application/json":
                jsonschema.validate(answer.json(), told["content"]["application/json"]["schema"])


def _plausible(operation: dict[str, Any], name: str) -> list[str]:
    schema = next((each["schema"] for each in operation["parameters"] if each["name"] == name), {})
    schema = schema.get("items", schema)
    return [*schema.get("enum", ()), *(["-60", "0"] if schema.get("type") == "integer" else [])]
