"""The objects of the policy language, after defaulting; every one immutable and comparable."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

INGRESS: Final = "Ingress"
EGRESS: Final = "Egress"

DEFAULT_TIER: Final = "default"
DEFAULT_TIER_ORDER: Final = 1_000_000.0
KUBERNETES_ORDER: Final = 1000.0

PREFIXES: Final = {
    "KubernetesNetworkPolicy": "knp.",
    "StagedKubernetesNetworkPolicy": "knp.",
    "AdminNetworkPolicy": "kanp.",
    "BaselineAdminNetworkPolicy": "kbanp.",
    "ClusterNetworkPolicy": "kcnp.",
}
"""What the name of a Kubernetes policy begins with in a trace, by kind; Calico's own kinds have nothing."""


@dataclass(frozen=True, slots=True)
class PortRange:
    """Ports ``low`` to ``high``, both included."""

    low: int
    high: int

    def __str__(self) -> str:
        return str(self.low) if self.low == self.high else f"{self.low}:{self.high}"


@dataclass(frozen=True, slots=True)
class ServiceName:
    """A Service that a rule names."""

    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class EntityRule:
    """One side of a rule; all conditions that are present must hold for the same endpoint or network set.

    Attributes:
        nets, not_nets: CIDRs in text form.
        selector, not_selector, namespace_selector: selector text; empty when absent.
        service_account_names, service_account_selector: of the pod's service account.
        ports, not_ports: ranges, or names that the endpoint gives to its ports.
        service: its endpoints and, at the destination, their ports.
        domains: names whose learnt addresses match (egress only); ``*`` stands for one part or more.
    """

    nets: tuple[str, ...] = ()
    not_nets: tuple[str, ...] = ()
    selector: str = ""
    not_selector: str = ""
    namespace_selector: str = ""
    service_account_names: tuple[str, ...] = ()
    service_account_selector: str = ""
    ports: tuple[PortRange | str, ...] = ()
    not_ports: tuple[PortRange | str, ...] = ()
    service: ServiceName | None = None
    domains: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Icmp:
    """An ICMP condition; ``code`` None matches every code, ``type`` None every type."""

    type: int | None
    code: int | None


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule.

    Attributes:
        action: ``Allow``, ``Deny``, ``Pass`` or ``Log``.
        protocol, not_protocol: IP protocol numbers.
        http: whether it has an HTTP condition, which packets can't tell; such a rule is judged without it.
    """

    action: str
    protocol: int | None = None
    not_protocol: int | None = None
    icmp: Icmp | None = None
    not_icmp: Icmp | None = None
    ip_version: int | None = None
    source: EntityRule = EntityRule()
    destination: EntityRule = EntityRule()
    http: bool = False


@dataclass(frozen=True, slots=True)
class Tier:
    """A tier; ``order`` None is last but for tier name; ``default_action`` is ``Deny`` or ``Pass``."""

    name: str
    order: float | None = DEFAULT_TIER_ORDER
    default_action: str = "Deny"


@dataclass(frozen=True, slots=True)
class Policy:
    """One policy of any kind, in Calico's terms.

    Attributes:
        kind: as written, but ``KubernetesNetworkPolicy`` for that of ``networking.k8s.io``.
        namespace: None when it holds for the whole cluster.
        name: as written.
        order: None is last.
        types: the directions that it governs, ``Ingress`` and ``Egress``.
        staged: whether it is reported only.
        staged_action: ``Set`` or ``Delete``; empty when not staged. ``Delete`` takes the enforced policy of the same
            name out of the pending trace.
        not_judged: why it isn't judged; empty when it is.
    """

    kind: str
    namespace: str | None
    name: str
    tier: str = DEFAULT_TIER
    order: float | None = None
    selector: str = ""
    namespace_selector: str = ""
    service_account_selector: str = ""
    types: tuple[str, ...] = (INGRESS,)
    ingress: tuple[Rule, ...] = ()
    egress: tuple[Rule, ...] = ()
    staged: bool = False
    staged_action: str = ""
    not_judged: str = ""

    @property
    def base_name(self) -> str:
        """The name without its tier's prefix."""
        return self.name.removeprefix(f"{self.tier}.")

    @property
    def trace_name(self) -> str:
        """The name in a trace: ``[<namespace>/][staged:]<tier>.<name>``."""
        namespace = f"{self.namespace}/" if self.namespace else ""
        staged = "staged:" if self.staged else ""
        return f"{namespace}{staged}{PREFIXES.get(self.kind, '')}{self.tier}.{self.base_name}"

    def rules(self, direction: str) -> tuple[Rule, ...]:
        """The rules of ``Ingress`` or ``Egress``."""
        return self.ingress if direction == INGRESS else self.egress


@dataclass(frozen=True, slots=True)
class NetworkSet:
    """Named addresses; ``namespace`` None is a GlobalNetworkSet."""

    namespace: str | None
    name: str
    labels: Mapping[str, str]
    nets: tuple[str, ...] = ()
    allowed_egress_domains: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class HostEndpoint:
    """A node's interface as an endpoint; ``named_ports`` are (name, protocol number, port)."""

    name: str
    node: str
    labels: Mapping[str, str]
    interface: str = ""
    expected_ips: tuple[str, ...] = ()
    profiles: tuple[str, ...] = ()
    named_ports: tuple[tuple[str, int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Profile:
    """Labels and rules that endpoints take on."""

    name: str
    labels_to_apply: Mapping[str, str]
    ingress: tuple[Rule, ...] = ()
    egress: tuple[Rule, ...] = ()


@dataclass(frozen=True, slots=True)
class Backends:
    """Addresses that one EndpointSlice gives a Service.

    Attributes:
        addresses: in their usual text form.
        ports: (name of the Service's port, protocol number, port of these addresses).
    """

    addresses: tuple[str, ...]
    ports: tuple[tuple[str, int, int], ...] = ()

    @property
    def nets(self) -> tuple[str, ...]:
        """The addresses as CIDRs."""
        return tuple(f"{each}/{128 if ':' in each else 32}" for each in self.addresses)

    @property
    def pairs(self) -> tuple[tuple[int, int], ...]:
        """(protocol number, port), each once, ascending."""
        return tuple(sorted({(protocol, port) for _, protocol, port in self.ports}))


@dataclass(frozen=True, slots=True)
class Service:
    """A Service, for rules that name it: the pods that its selector selects, and its ``backends``.

    Attributes:
        selector: labels of its pods, sorted; empty when it selects none.
        ports: (name, protocol number, port, target port number or name).
        backends: of the EndpointSlices that Kubernetes doesn't make from the selector; None where none is known.
    """

    namespace: str
    name: str
    selector: tuple[tuple[str, str], ...]
    ports: tuple[tuple[str, int, int, int | str], ...] = ()
    backends: tuple[Backends, ...] | None = None

    @property
    def unknown(self) -> bool:
        """Whether nothing tells where it leads."""
        return not self.selector and self.backends is None


@dataclass(frozen=True, slots=True)
class Resources:
    """All objects that decide verdicts, as of one moment.

    Attributes:
        namespaces: labels by namespace.
        service_accounts: labels by (namespace, name).
        domains: addresses learnt for domain names; empty when nothing is learnt.
    """

    tiers: tuple[Tier, ...] = ()
    policies: tuple[Policy, ...] = ()
    network_sets: tuple[NetworkSet, ...] = ()
    host_endpoints: tuple[HostEndpoint, ...] = ()
    profiles: tuple[Profile, ...] = ()
    namespaces: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    service_accounts: Mapping[tuple[str, str], Mapping[str, str]] = field(default_factory=dict)
    services: tuple[Service, ...] = ()
    domains: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A pod (``wep``) or a node (``hep``).

    Attributes:
        kind: ``wep`` or ``hep``.
        namespace: empty for a node.
        labels: its own, without those it inherits.
        service_account: name; empty when unknown.
        named_ports: (name, protocol number, port).
        addresses: in text form; they take no part in its class.
    """

    kind: str
    namespace: str
    name: str
    labels: Mapping[str, str]
    service_account: str = ""
    named_ports: tuple[tuple[str, int, int], ...] = ()
    addresses: tuple[str, ...] = ()
