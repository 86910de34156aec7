"""What the storefront's flow logs must say, field by field, written down from its manifests and its call graph."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tierflow.schemas.flow_log import FIELDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

TWILIO, ELSEWHERE = "203.0.113.10", "198.51.100.20"
PASS = "0|security|security.pass|pass|0"
NO_DNS = "1|platform|platform.allow-kube-dns|pass|1"
STAGED_DENY = "default|staged:default.default-deny|deny|-1"
HASH = re.compile(r"[a-z0-9]{10}-[a-z0-9]{5}")
ZONES = {
    "frontend": ("fw-zone=dmz",), "microservice1": ("fw-zone=trusted",), "microservice2": ("fw-zone=trusted",),
    "backend": ("fw-zone=restricted",), "logging": (), "rogue": (),
}  # fmt: skip
DENIED_BY = {
    "frontend": "1|default|storefront/default.dmz|deny|1",
    "microservice1": "1|default|storefront/default.trusted|deny|2",
    "microservice2": "1|default|storefront/default.trusted|deny|2",
    "backend": "1|default|storefront/default.restricted|deny|2",
    "logging": "1|platform|platform.logging|deny|1",
}
NOWHERE = {
    "dest_service_namespace": "-", "dest_service_name": "-", "dest_service_port": "-", "dest_service_port_name": "-",
    "dest_service_port_num": None,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Pod:
    """One pod as the lab made it."""

    namespace: str
    name: str
    address: str

    @property
    def app(self) -> str:
        return self.name.rsplit("-", 2)[0]

    @property
    def labels(self) -> list[str]:
        own = ("k8s-app=kube-dns",) if self.app == "kube-dns" else (f"app={self.app}", *ZONES[self.app])
        return sorted([*own, f"pod-template-hash={self.name.split('-')[-2]}"])


def pods(status: Iterable[Mapping[str, Any]], logs: Iterable[Mapping[str, Any]]) -> dict[str, Pod]:
    """Pods by application: those that run, and the rogue, which has gone, as its denials name it."""
    found = [Pod(each["namespace"], each["name"], each["address"]) for each in status]
    rogue = next(log for log in logs if log["source_name"].startswith("rogue-"))
    assert HASH.fullmatch(rogue["source_name"].removeprefix("rogue-"))
    return {pod.app: pod for pod in (*found, Pod("storefront", rogue["source_name"], rogue["source_ip"]))}


def side(end: str, pod: Pod, level: int) -> dict[str, Any]:
    return {
        f"{end}_type": "wep", f"{end}_namespace": pod.namespace, f"{end}_name_aggr": pod.name.rsplit("-", 1)[0] + "-*",
        f"{end}_name": pod.name if level <= 1 else "-", f"{end}_ip": pod.address if level <= 1 else None,
        f"{end}_labels": {"labels": pod.labels}, f"{end}_ips": [pod.address], f"num_{end}_ips": 1,
    }  # fmt: skip


def network_set(name: str, label: str, address: str, level: int) -> dict[str, Any]:
    return {
        "dest_type": "ns", "dest_namespace": "-", "dest_name_aggr": name, "dest_name": "-",
        "dest_ip": address if level <= 1 else None, "dest_labels": {"labels": [label]}, "dest_ips": [address],
        "num_dest_ips": 1,
    }  # fmt: skip


def service(namespace: str, name: str, port: str, number: int) -> dict[str, Any]:
    return {
        "dest_service_namespace": namespace, "dest_service_name": name, "dest_service_port": port,
        "dest_service_port_name": port, "dest_service_port_num": number,
    }  # fmt: skip


def traces(enforced: list[str], pending: list[str] | None = None, everything: list[str] | None = None) -> Any:
    return {
        "policies": {
            "enforced_policies": enforced,
            "pending_policies": enforced if pending is None else pending,
            "all_policies": enforced if everything is None else everything,
        }
    }


def verdict(reporter: str, action: str, evidence: str, level: int, *, derived: bool = False) -> dict[str, Any]:
    return {
        "reporter": reporter, "action": action, "evidence": evidence, "aggregation_level": level, "derived": derived,
    }  # fmt: skip


def through_service(p: Mapping[str, Pod]) -> list[dict[str, Any]]:
    """frontend calls microservice1 by its ClusterIP: both sides allow, the source says which Service was meant."""
    both = side("source", p["frontend"], 2) | side("dest", p["microservice1"], 2) | {"proto": "tcp", "dest_port": 8080}
    return [
        both | verdict("src", "allow", "answered", 2) | service("storefront", "microservice1", "http", 80)
        | traces([PASS, NO_DNS, "2|default|storefront/default.dmz|allow|0"]) | SHAKEN | ANSWERED,
        both | verdict("dst", "allow", "answered", 2) | NOWHERE
        | traces([PASS, "1|default|storefront/default.trusted|allow|0"]) | SHAKEN | ANSWERED,
    ]  # fmt: skip


def rogue_to(p: Mapping[str, Pod], target: str) -> list[dict[str, Any]]:
    """Nothing holds the rogue's egress; the target's ingress denies it, and only the source's side saw the packet."""
    both = (
        side("source", p["rogue"], 1) | side("dest", p[target], 1) | {"proto": "tcp", "dest_port": 8080}
        | service("storefront", target, "http", 80) | UNSHAKEN
    )  # fmt: skip
    profile = "__PROFILE__|__PROFILE__.kns.storefront|allow|0"
    return [
        # A staged deny counts as denied, so the level is that of denied flows.
        both | verdict("src", "allow", "unanswered", 1) | SENT
        | traces([PASS, NO_DNS, f"2|{profile}"], [PASS, NO_DNS, f"2|{STAGED_DENY}"],
                 [PASS, NO_DNS, f"2|{STAGED_DENY}", f"3|{profile}"]),
        both | verdict("dst", "deny", "enforced", 1, derived=True) | RECEIVED | traces([PASS, DENIED_BY[target]]),
    ]  # fmt: skip


def outside(p: Mapping[str, Pod]) -> list[dict[str, Any]]:
    """Egress, judged where it starts; the rogue's namespace may reach Twilio and nothing else public.

    Of the two sets that hold Twilio's address the longer prefix names it.
    """
    to_twilio = network_set("twilio-api", "provider=twilio", TWILIO, 2)
    elsewhere = network_set("public-ip-range", "type=public", ELSEWHERE, 1)
    return [
        side("source", pod, level) | to | NOWHERE | {"proto": "tcp", "dest_port": 80}
        | verdict("src", action, evidence, level) | amounts
        | traces([PASS, f"1|platform|platform.twilio-integration|{action}|{rule}"])
        for pod, to, action, rule, evidence, level, amounts in (
            (p["microservice2"], to_twilio, "allow", 0, "answered", 2, SHAKEN | ANSWERED),
            (p["rogue"], elsewhere, "deny", 1, "enforced", 1, UNSHAKEN | SENT),
        )
    ]  # fmt: skip


def names(p: Mapping[str, Pod]) -> list[dict[str, Any]]:
    """DNS by UDP. The destination's namespace has no policy but a staged one, which would deny."""
    profile = "__PROFILE__|__PROFILE__.kns.kube-system|allow|0"
    packets = {"proto": "udp", "dest_port": 53} | UNSHAKEN | ANSWERED
    src, dst = p["microservice2"], p["kube-dns"]
    return [
        packets | side("source", src, 2) | side("dest", dst, 2) | verdict("src", "allow", "answered", 2)
        | service("kube-system", "kube-dns", "*", 53) | traces([PASS, "1|platform|platform.allow-kube-dns|allow|0"]),
        packets | side("source", src, 1) | side("dest", dst, 1) | verdict("dst", "allow", "answered", 1) | NOWHERE
        | traces([PASS, f"1|{profile}"], [PASS, f"1|{STAGED_DENY}"], [PASS, f"1|{STAGED_DENY}", f"2|{profile}"]),
    ]  # fmt: skip


def some(value: Any, _: Mapping[str, Any]) -> bool:
    return isinstance(value, int) and value > 0


def count(value: Any, _: Mapping[str, Any]) -> bool:
    return isinstance(value, int) and value >= 0


def syns(value: Any, log: Mapping[str, Any]) -> bool:
    return bool(value == 60 * (log["packets_in"] + log["packets_out"]))


AMOUNTS = ("packets_in", "packets_out", "bytes_in", "bytes_out")
ANSWERED: dict[str, Any] = dict.fromkeys(AMOUNTS, some)
SENT: dict[str, Any] = {"packets_in": 0, "bytes_in": 0, "packets_out": some, "bytes_out": syns}
RECEIVED: dict[str, Any] = {"packets_in": some, "bytes_in": syns, "packets_out": 0, "bytes_out": 0}
SHAKEN: dict[str, Any] = {
    "handshake_rtt_mean_us": lambda value, log: 0 < value <= log["handshake_rtt_max_us"],
    "handshake_rtt_max_us": lambda value, _: 0 < value < 1_000_000,
}
UNSHAKEN: dict[str, Any] = {"handshake_rtt_mean_us": None, "handshake_rtt_max_us": None}


def always(window_s: int) -> dict[str, Any]:
    """What holds for every log of this lab."""
    return {
        "id": lambda value, _: re.fullmatch("[0-9a-f]{32}", value) is not None,
        "start_time": lambda value, _: value % window_s == 0,
        "end_time": lambda value, log: value == log["start_time"] + window_s,
        "@timestamp": lambda value, log: value == 1000 * log["end_time"],
        "cluster": "",
        "host": "lab-node",
        "late": False,
        "source_port": None,
        "num_flows": some,
        "num_flows_started": count,
        "num_flows_completed": count,
    } | {field.name: None for field in FIELDS if not field.collected}


def key(log: Mapping[str, Any]) -> tuple[Any, ...]:
    """Which edge a log is of."""
    return log["source_name_aggr"], log["dest_name_aggr"], log["reporter"], log["proto"], log["dest_port"]


def told(log: Mapping[str, Any], written: Mapping[str, Any]) -> bool:
    """Whether all of it lies within the log's window.

    One in which nothing begins may have no handshake or packet to tell by, and a connection that begins as the window
    ends has its answer in the next. Nothing closes what nobody answers, nor a datagram: these begin alone.
    """
    closes = written["proto"] == "tcp" and written["evidence"] == "answered"
    return bool(log["num_flows_started"] and (not closes or log["num_flows_completed"] >= log["num_flows_started"]))


def differences(log: Mapping[str, Any], written: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Fields that are not as written: what is there and what should be; every field must be written, none be more."""
    wrong = {
        name: (log[name], wanted)
        for name, wanted in written.items()
        if name in log and not (wanted(log[name], log) if callable(wanted) else log[name] == wanted)
    }
    return wrong | {name: (log.get(name), written.get(name)) for name in log.keys() ^ written.keys()}
