"""Policy engine: verdicts a second, cold and warm; compile time and memory of a large cluster; small changes.

All times are processor time of this process, so that other work on the machine doesn't count.
"""

from __future__ import annotations

import dataclasses
import gc
import multiprocessing
import os
import random
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.harness import CpuTimer, Report, best_of, check, process_memory_bytes
from tierflow.policy import (
    EGRESS,
    INGRESS,
    Endpoint,
    EntityRule,
    Flow,
    Policy,
    PolicySet,
    PortRange,
    Resources,
    Rule,
    ScalarJudge,
    Side,
    Tier,
    compile_policies,
    parse_selector,
)
from tierflow.policy.columns import LabelColumns
from tierflow.schemas.record import V4_MAPPED

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

POLICIES, RULES = 50, 10
PODS, MANY_POLICIES, TIERS, NAMESPACES = 10_000, 2_000, 4, 100
CHECKED = 300
SELECTORS = (
    'app == "app-7"',
    'app != "app-7" && has(team)',
    'app in {"app-1", "app-2", "app-3"} || team not in {"team-4"}',
    'app starts with "app-1" && !(team ends with "-3")',
    'projectcalico.org/namespace == "namespace-5" && tier contains "front"',
)


def walked_in_full() -> Resources:
    """Policies that apply to every pod and whose rules all fail but for the very last, which allows."""
    never = [
        Rule(
            "Allow",
            protocol=6,
            source=EntityRule(selector=f'app == "nobody-{n}"'),
            destination=EntityRule(ports=(PortRange(n + 1, n + 1),)),
        )
        for n in range(POLICIES * RULES - 1)
    ]
    rules = [*never, Rule("Allow", protocol=6)]
    policies = tuple(
        Policy(
            "GlobalNetworkPolicy",
            None,
            f"p{n:02}",
            order=float(n),
            selector="has(app)",
            types=(INGRESS, EGRESS),
            ingress=tuple(rules[n * RULES : (n + 1) * RULES]),
            egress=tuple(rules[n * RULES : (n + 1) * RULES]),
        )
        for n in range(POLICIES)
    )
    return Resources(policies=policies, namespaces={"shop": {}})


def judge_workload(count: int) -> tuple[Resources, list[Endpoint], NDArray[np.int64]]:
    """Resources, endpoints, and ``count`` distinct (source, destination, port) rows."""
    endpoints = [Endpoint("wep", "shop", f"pod-{n}", {"app": f"app-{n}"}) for n in range(500)]
    rows = np.arange(count, dtype=np.int64)
    return walked_in_full(), endpoints, np.stack([rows % 500, rows // 500 % 500, 10_000 + rows // 250_000], axis=1)


def sides_for(policy_set: PolicySet, endpoints: list[Endpoint]) -> NDArray[np.int32]:
    """One side per endpoint, at 10.0.0.0 + its position."""
    low = np.array([V4_MAPPED | (10 << 24) | n for n in range(len(endpoints))], dtype=np.uint64)
    return policy_set.sides(policy_set.endpoint_classes(endpoints), np.zeros(len(endpoints), np.uint64), low)


def verdicts(report: Report, count: int) -> None:
    """Cold verdicts over distinct class tuples, and the warm gather."""
    resources, endpoints, rows = judge_workload(count)
    protocol = np.where(np.arange(count) % 8 == 7, 17, 6).astype(np.uint8)
    source_port = np.full(count, 40_000, np.uint16)

    def prepared() -> tuple[PolicySet, tuple[Any, ...]]:
        policy_set = compile_policies(resources)
        sides = sides_for(policy_set, endpoints)
        return policy_set, (sides[rows[:, 0]], sides[rows[:, 1]], protocol, source_port, rows[:, 2].astype(np.uint16))

    policy_set, arguments = prepared()
    answer = policy_set.judge(*arguments)
    oracle = ScalarJudge(resources)
    for index in random.Random(7).sample(range(count), min(CHECKED, count)):
        source, destination, port = rows[index].tolist()
        flow = Flow(
            Side("10.0.0.1", endpoints[source]),
            Side("10.0.0.2", endpoints[destination]),
            int(protocol[index]),
            40_000,
            port,
        )
        for direction, traces in ((EGRESS, answer.egress_trace), (INGRESS, answer.ingress_trace)):
            check(policy_set.traces[traces[index]] == oracle.trace(flow, direction), f"flow {index}, {direction}")

    def cold() -> float:
        fresh, given = prepared()
        gc.collect()
        with CpuTimer() as timer:
            fresh.judge(*given)
        return timer.seconds

    report.add("cold verdicts, both directions and both traces", count / best_of(3, cold), "tuples/s")
    records = np.random.default_rng(3).integers(0, 4096, 4_000_000).astype(np.int32)
    table = answer.egress_trace[:4096].copy()
    gathered = np.empty(len(records), np.int32)
    np.take(table, records, out=gathered, mode="clip")
    check(bool((gathered[:1000] == [table[each] for each in records[:1000]]).all()), "warm gather")
    seconds = best_of(5, _timed(lambda: np.take(table, records, out=gathered, mode="clip")))
    report.add("warm gather", len(records) / seconds, "records/s")


def _timed(action: Callable[[], object]) -> Callable[[], float]:
    def once() -> float:
        with CpuTimer() as timer:
            action()
        return timer.seconds

    return once


def large_cluster(pods: int, policies: int) -> tuple[Resources, list[Endpoint]]:
    """Pods with distinct labels, and policies of three rules each way over four tiers."""
    chooser = random.Random(11)
    endpoints = [
        Endpoint(
            "wep",
            f"namespace-{n % NAMESPACES}",
            f"pod-{n}",
            {"app": f"app-{n % 1000}", "team": f"team-{n % 37}", "tier": f"front-{n % 11}", "pod": f"{n}"},
            f"account-{n % 50}",
            (("http", 6, 8080),),
        )
        for n in range(pods)
    ]

    def rule(action: str) -> Rule:
        selector = f'app == "app-{chooser.randrange(1000)}"'
        ports: tuple[PortRange | str, ...] = (PortRange(8080, 8080), "http")
        return Rule(action, protocol=6, source=EntityRule(selector=selector), destination=EntityRule(ports=ports))

    made = []
    for n in range(policies):
        whole = n % 10 == 0
        tier = f"tier-{n % TIERS}"
        made.append(
            Policy(
                "GlobalNetworkPolicy" if whole else "NetworkPolicy",
                None if whole else f"namespace-{n % NAMESPACES}",
                f"{tier}.policy-{n}",
                tier=tier,
                order=float(n),
                selector=f'team == "team-{n % 37}"' if n % 3 else "",
                types=(INGRESS, EGRESS),
                ingress=(rule("Allow"), rule("Allow"), rule("Pass")),
                egress=(rule("Allow"), rule("Allow"), Rule("Pass")),
            )
        )
    resources = Resources(
        tiers=tuple(Tier(f"tier-{n}", float(n)) for n in range(TIERS)),
        policies=tuple(made),
        namespaces={f"namespace-{n}": {"team": f"team-{n % 7}"} for n in range(NAMESPACES)},
    )
    return resources, endpoints


def compiled_size(pods: int, policies: int) -> tuple[float, float]:
    """CPU seconds and MiB that compiling takes; meant for a process of its own."""
    resources, endpoints = large_cluster(pods, policies)
    gc.collect()
    before = process_memory_bytes(os.getpid())
    with CpuTimer() as timer:
        policy_set = compile_policies(resources)
        policy_set.endpoint_classes(endpoints)
        # Evaluates every selector on every class.
        policy_set.select(parse_selector("all()"))
    return timer.seconds, (process_memory_bytes(os.getpid()) - before) / (1 << 20)


def changes(report: Report, pods: int, policies: int) -> None:
    """Compile a large cluster, then change one pod and one policy, each until the first verdict with it."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        seconds, memory = pool.apply(compiled_size, (pods, policies))
    report.add(f"compile {pods} pods, {policies} policies", seconds * 1000, "ms", "lower")
    report.add("memory for it", memory, "MiB", "lower")
    resources, endpoints = large_cluster(pods, policies)
    policy_set = compile_policies(resources)
    policy_set.endpoint_classes(endpoints)
    first = sides_for(policy_set, endpoints[:2])
    one = (np.array([6], np.uint8), np.array([40_000], np.uint16), np.array([8080], np.uint16))
    policy_set.judge(first[:1], first[1:], *one)
    oracle = ScalarJudge(resources)
    pods_done: list[float] = []
    for n in range(20):
        pod = dataclasses.replace(endpoints[n], labels={**endpoints[n].labels, "pod": f"new-{n}"})
        start = time.process_time()
        sides = sides_for(policy_set, [pod])
        answer = policy_set.judge(first[:1], sides, *one)
        pods_done.append(time.process_time() - start)
        if n < 3:
            flow = Flow(Side("10.0.0.0", endpoints[0]), Side("10.0.0.0", pod), 6, 40_000, 8080)
            check(policy_set.traces[answer.ingress_trace[0]] == oracle.trace(flow, INGRESS), f"new pod {n}")
    report.add("one pod relabelled, until its first verdict", sorted(pods_done)[10] * 1000, "ms", "lower")
    policies_done: list[float] = []
    for n in range(5):
        changed = dataclasses.replace(resources.policies[n], ingress=(Rule("Deny", protocol=17),))
        other = dataclasses.replace(
            resources, policies=(*resources.policies[:n], changed, *resources.policies[n + 1 :])
        )
        start = time.process_time()
        fresh = policy_set.with_resources(other)
        sides = sides_for(fresh, endpoints[:2])
        answer = fresh.judge(sides[:1], sides[1:], *one)
        policies_done.append(time.process_time() - start)
        flow = Flow(Side("10.0.0.0", endpoints[0]), Side("10.0.0.1", endpoints[1]), 6, 40_000, 8080)
        expected = ScalarJudge(other).trace(flow, INGRESS)
        check(fresh.traces[answer.ingress_trace[0]] == expected, f"changed policy {n}")
    report.add("one policy changed, until the first verdict", sorted(policies_done)[2] * 1000, "ms", "lower")


def selectors(report: Report, count: int) -> None:
    """Selectors over many label sets."""
    sets = [
        {
            "app": f"app-{n % 1000}",
            "team": f"team-{n % 37}",
            "tier": f"front-{n % 11}",
            "projectcalico.org/namespace": f"namespace-{n % NAMESPACES}",
        }
        for n in range(count)
    ]
    columns = LabelColumns(sets)
    worst = 0.0
    for text in SELECTORS:
        node = parse_selector(text)
        expected = np.array([node.matches(each) for each in sets])
        check(bool(np.array_equal(columns.select(node), expected)), text)
        start = time.process_time()
        for _ in range(20):
            columns.select(node)
        worst = max(worst, (time.process_time() - start) / 20)
    report.add(f"slowest selector over {count} label sets", worst * 1000, "ms", "lower")


def run(quick: bool) -> list[Report]:
    """All figures."""
    tuples = 50_000 if quick else 500_000
    pods, policies = (1_000, 200) if quick else (PODS, MANY_POLICIES)
    report = Report(
        "policy",
        {
            "policies x rules": f"{POLICIES} x {RULES}",
            "tuples": tuples,
            "pods": pods,
            "policies": policies,
            "tiers": TIERS,
        },
        checked=f"equal to the plain judge on {CHECKED} flows, new pods and changed policies",
    )
    verdicts(report, tuples)
    changes(report, pods, policies)
    selectors(report, PODS)
    return [report]
