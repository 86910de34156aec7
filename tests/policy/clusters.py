"""Random clusters, policies and flows; small alphabets, so that things meet."""

from __future__ import annotations

import dataclasses
import random

from tierflow.policy import (
    EGRESS,
    INGRESS,
    Endpoint,
    EntityRule,
    HostEndpoint,
    Icmp,
    NetworkSet,
    Policy,
    PortRange,
    Profile,
    Resources,
    Rule,
    Service,
    ServiceName,
    Side,
    Tier,
)
from tierflow.policy.model import Backends

NAMESPACES = ("red", "green", "blue")
KEYS = ("app", "zone", "role")
VALUES = ("a", "b", "ab", "ba")
NETS = (
    "10.0.0.0/8",
    "10.1.0.0/16",
    "10.1.1.0/24",
    "10.1.1.7/32",
    "0.0.0.0/0",
    "fd00::/8",
    "fd00:1::/32",
    "::/0",
    "198.51.100.0/24",
)
ADDRESSES = (
    "10.1.1.7",
    "10.1.1.8",
    "10.1.2.3",
    "10.9.9.9",
    "198.51.100.7",
    "8.8.8.8",
    "fd00:1::1",
    "fd00:2::1",
    "2001:db8::1",
)
PORTS = (0, 53, 80, 443, 8080, 65535)
PORT_NAMES = ("http", "dns")
PROTOCOLS = (6, 17, 132, 1, 58, 47)
PODS = "projectcalico.org/orchestrator == 'k8s'"
KUBERNETES_KINDS = (
    ("KubernetesNetworkPolicy", "default", ("Allow",)),
    ("StagedKubernetesNetworkPolicy", "default", ("Allow",)),
    ("AdminNetworkPolicy", "adminnetworkpolicy", ("Allow", "Deny", "Pass")),
    ("BaselineAdminNetworkPolicy", "baselineadminnetworkpolicy", ("Allow", "Deny")),
    ("ClusterNetworkPolicy", "kube-admin", ("Allow", "Deny", "Pass")),
    ("ClusterNetworkPolicy", "kube-baseline", ("Allow", "Deny", "Pass")),
)
DOMAINS = {"api.example.com": ("198.51.100.7/32",), "www.example.org": ("2001:db8::1/128", "8.8.8.8/32")}


class Maker:
    """Makes random objects from one seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.narrow = self.random.random() < 0.5
        """Whether rules keep to selectors, network sets and named ports, so that these meet on one side."""

    def chance(self, probability: float) -> bool:
        return self.random.random() < probability

    def labels(self) -> dict[str, str]:
        return {key: self.random.choice(VALUES) for key in KEYS if self.chance(0.6)}

    def selector(self, depth: int = 2) -> str:
        pick = self.random.choice
        if depth and self.chance(0.4):
            inner = [self.selector(depth - 1) for _ in range(2)]
            return pick([f"({inner[0]}) && ({inner[1]})", f"({inner[0]}) || ({inner[1]})", f"!({inner[0]})"])
        key = pick([*KEYS, "missing"])
        return pick(
            [
                f'{key} == "{pick(VALUES)}"',
                f'{key} != "{pick(VALUES)}"',
                f'{key} in {{"{pick(VALUES)}", "{pick(VALUES)}"}}',
                f'{key} not in {{"{pick(VALUES)}"}}',
                f"has({key})",
                f"!has({key})",
                f'{key} contains "a"',
                f'{key} starts with "a"',
                f'{key} ends with "b"',
                "all()",
                "global()",
            ]
        )

    def ports(self) -> tuple[PortRange | str, ...]:
        found: list[PortRange | str] = []
        for _ in range(self.random.randint(1, 2)):
            low = self.random.choice(PORTS)
            high = self.random.choice([port for port in PORTS if port >= low])
            found.append(self.random.choice([PortRange(low, high), self.random.choice(PORT_NAMES)]))
        return tuple(found)

    def nets(self) -> tuple[str, ...]:
        return tuple(self.random.sample(NETS, self.random.randint(1, 2)))

    def names(self) -> tuple[str, ...]:
        return tuple(self.random.sample(PORT_NAMES, self.random.randint(1, 2)))

    def entity(self, *, ports: bool, names: bool, service: bool, domains: bool) -> EntityRule:
        """One side; ``names`` lets port names stand without a protocol."""
        if service and self.chance(0.12):
            name = ServiceName(self.random.choice(NAMESPACES), self.random.choice(["web", "none"]))
            return EntityRule(service=name, ports=self.ports() if ports and not domains and self.chance(0.3) else ())
        if domains and self.chance(0.05):
            return EntityRule(
                domains=self.random.choice([("*.example.com",), ("api.*.com", "www.example.org")]),
                ports=self.ports() if ports and self.chance(0.3) else (),
            )
        choose = self.ports if ports else self.names
        if self.narrow:
            return EntityRule(
                selector=self.selector(0) if self.chance(0.6) else "",
                not_selector=self.selector(0) if self.chance(0.1) else "",
                nets=self.nets() if self.chance(0.1) else (),
                ports=choose() if (ports or names) and self.chance(0.5) else (),
                not_ports=choose() if (ports or names) and self.chance(0.4) else (),
            )
        return EntityRule(
            nets=self.nets() if self.chance(0.15) else (),
            not_nets=self.nets() if self.chance(0.1) else (),
            selector=self.selector() if self.chance(0.35) else "",
            not_selector=self.selector(0) if self.chance(0.15) else "",
            namespace_selector=self.random.choice(["all()", "global()", 'team == "a"', self.selector(0)])
            if self.chance(0.2)
            else "",
            service_account_names=("one",) if self.chance(0.08) else (),
            service_account_selector='tier == "a"' if self.chance(0.08) else "",
            ports=choose() if (ports or names) and self.chance(0.35) else (),
            not_ports=choose() if (ports or names) and self.chance(0.15) else (),
        )

    def icmp(self) -> Icmp:
        kind = self.random.choice([None, 0, 8, 3])
        return Icmp(kind, None if kind is None else self.random.choice([None, 0, 1]))

    def rule(self, direction: str) -> Rule:
        protocol = self.random.choice((6, 17) if self.narrow else PROTOCOLS) if self.chance(0.5) else None
        ports = protocol in (6, 17, 132)
        names = protocol is None and self.chance(0.9 if self.narrow else 0.3)
        return Rule(
            action=self.random.choice(["Allow", "Deny", "Pass", "Log"]),
            protocol=protocol,
            not_protocol=self.random.choice(PROTOCOLS) if self.chance(0.1) and not self.narrow else None,
            icmp=self.icmp() if protocol in (1, 58) and self.chance(0.5) else None,
            not_icmp=self.icmp() if protocol in (1, 58, None) and self.chance(0.2) else None,
            ip_version=self.random.choice([4, 6]) if self.chance(0.1) else None,
            source=self.entity(
                ports=ports and self.chance(0.3), names=names, service=direction == INGRESS, domains=False
            ),
            destination=self.entity(ports=ports, names=names, service=direction == EGRESS, domains=direction == EGRESS),
        )

    def kubernetes_rule(self, direction: str, action: str) -> Rule:
        """A rule as the readers of Kubernetes' policies make them."""
        protocol = self.random.choice([None, None, 6, 17, 132])
        ports: tuple[PortRange | str, ...] = ()
        if protocol is not None:
            ports = self.ports() if self.chance(0.7) else ()
        elif self.chance(0.2):
            ports = self.names()
        pods, namespaces = f"{PODS} && {self.selector(0)}", self.random.choice(["all()", 'team == "a"', ""])
        peer = self.random.choice(
            [
                EntityRule(),
                EntityRule(nets=self.nets(), not_nets=self.random.choice([(), ("10.1.1.0/24",)])),
                EntityRule(selector=pods, namespace_selector=namespaces),
                EntityRule(namespace_selector=namespaces or "all()"),
            ]
        )
        if direction == INGRESS:
            return Rule(action, protocol=protocol, source=peer, destination=EntityRule(ports=ports))
        return Rule(action, protocol=protocol, destination=dataclasses.replace(peer, ports=ports))

    def kubernetes_policy(self, index: int) -> Policy:
        kind, tier, actions = self.random.choice(KUBERNETES_KINDS)
        namespaced = kind.endswith("KubernetesNetworkPolicy")
        staged = kind.startswith("Staged")
        rules = {
            direction: tuple(
                self.kubernetes_rule(direction, self.random.choice(actions)) for _ in range(self.random.randint(0, 3))
            )
            for direction in (INGRESS, EGRESS)
        }
        types = self.random.choice([(INGRESS,), (INGRESS, EGRESS)])
        return Policy(
            kind=kind,
            namespace=self.random.choice(NAMESPACES) if namespaced else None,
            name=f"k{index % 5}",
            tier=tier,
            order=1000.0 if namespaced else float(self.random.randint(0, 2)),
            selector=PODS if self.chance(0.5) else f"{PODS} && {self.selector(0)}",
            namespace_selector="" if namespaced else self.random.choice(["all()", 'team == "a"']),
            types=types if namespaced else tuple(each for each in (INGRESS, EGRESS) if rules[each]),
            ingress=rules[INGRESS],
            egress=rules[EGRESS],
            staged=staged,
            staged_action="Set" if staged else "",
        )

    def policy(self, index: int) -> Policy:
        namespace = self.random.choice([None, *NAMESPACES])
        staged = self.chance(0.25)
        kind = ("Staged" if staged else "") + ("GlobalNetworkPolicy" if namespace is None else "NetworkPolicy")
        return Policy(
            kind=kind,
            namespace=namespace,
            name=f"p{index % 7}",
            tier=self.random.choice(["first", "second", "default", "unwritten"]),
            order=self.random.choice([None, 1.0, 2.0, 2.0, -3.5]),
            selector=self.selector(1) if self.chance(0.5) else "",
            namespace_selector=self.random.choice(["all()", 'team != "a"'])
            if namespace is None and self.chance(0.2)
            else "",
            service_account_selector="has(tier)" if self.chance(0.1) else "",
            types=self.random.choice([(INGRESS,), (EGRESS,), (INGRESS, EGRESS)]),
            ingress=tuple(self.rule(INGRESS) for _ in range(self.random.randint(0, 4))),
            egress=tuple(self.rule(EGRESS) for _ in range(self.random.randint(0, 4))),
            staged=staged,
            staged_action="Set" if staged else "",
            not_judged="preDNAT" if self.chance(0.03) else "",
        )

    def profile(self, name: str) -> Profile:
        return Profile(
            name,
            {"role": "ab"},
            tuple(self.rule(INGRESS) for _ in range(2)),
            tuple(self.rule(EGRESS) for _ in range(2)),
        )

    def resources(self) -> Resources:
        policies = {}
        for index in range(self.random.randint(0, 14)):
            each = self.kubernetes_policy(index) if self.chance(0.3) else self.policy(index)
            policies[each.kind, each.namespace, each.name] = each
        return Resources(
            tiers=(
                Tier("first", self.random.choice([1.0, None, 5.0]), self.random.choice(["Deny", "Pass"])),
                Tier("second", 5.0, self.random.choice(["Deny", "Pass"])),
            ),
            policies=tuple(policies.values()),
            network_sets=tuple(
                NetworkSet(self.random.choice([None, *NAMESPACES]), f"set{index}", self.labels(), self.nets())
                for index in range(self.random.randint(2 if self.narrow else 0, 4))
            ),
            host_endpoints=(HostEndpoint("node-a", "node-a", {}, "*", (), ("written", "kns.red")),),
            profiles=tuple(self.profile(name) for name in ("written", "kns.blue", "ksa.red.one") if self.chance(0.4)),
            namespaces={"red": {"team": "a"}, "green": {"team": "b"}},
            service_accounts={("red", "one"): {"tier": "a"}},
            services=(
                Service("red", "web", (("app", "a"),), (("h", 6, 80, "http"), ("d", 17, 53, 53)), self.backends()),
                Service("green", "web", (), (), self.backends()),
            ),
            domains=DOMAINS if self.chance(0.7) else {},
        )

    def backends(self) -> tuple[Backends, ...] | None:
        if self.chance(0.2):
            return None
        pick = self.random.choice
        return tuple(
            Backends(
                tuple(self.random.sample(ADDRESSES, self.random.randint(0, 3))),
                tuple(("", pick([6, 17]), pick(PORTS)) for _ in range(self.random.randint(0, 3))),
            )
            for _ in range(self.random.randint(0, 2))
        )

    def endpoint(self, index: int) -> Endpoint:
        if self.chance(0.15):
            return Endpoint("hep", "", self.random.choice(["node-a", "node-b"]), self.labels())
        ports = tuple(
            (name, protocol, self.random.choice(PORTS))
            for name in PORT_NAMES
            for protocol in (6, 17)
            if self.chance(0.4)
        )
        return Endpoint(
            "wep",
            self.random.choice(NAMESPACES),
            f"pod{index}",
            self.labels(),
            self.random.choice(["", "one", "two"]),
            ports,
        )

    def traffic(self, destination: Side) -> tuple[int, int]:
        """A protocol and destination port; often one that the destination has a name for."""
        if destination.endpoint is not None and destination.endpoint.named_ports and self.chance(0.4):
            _, protocol, port = self.random.choice(destination.endpoint.named_ports)
            return protocol, port
        protocol = self.random.choice(PROTOCOLS)
        ports = (0, 8 << 8, 3 << 8 | 1, 3 << 8) if protocol in (1, 58) else PORTS
        return protocol, self.random.choice(ports)
