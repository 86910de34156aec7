"""What evaluation leaves behind: hits, the two traces, and their documented text form.

``<index>|<tier>|<policy>|<action>|<rule index>``; the older form has no rule index. Source: Calico Enterprise, "Flow
log data types". Open-source Calico writes ``<kind>:[<namespace>/]<name>`` for the policy (Felix, policy lookup cache);
that is read, too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from tierflow.policy.model import Policy


PROFILE_TIER: Final = "__PROFILE__"
NO_MATCH: Final = "__NO_MATCH__"
DEFAULT_RULE: Final = -1
"""Rule index of a tier's default action."""
UNKNOWN_RULE: Final = -2
"""Rule index where none is known, as in the older text form."""


@dataclass(frozen=True, slots=True)
class PolicyRef:
    """Names one policy, or a profile (kind ``Profile``)."""

    kind: str
    namespace: str | None
    name: str
    staged: bool = False

    @classmethod
    def of(cls, policy: Policy) -> PolicyRef:
        """The reference to a policy."""
        return cls(policy.kind, policy.namespace, policy.name, policy.staged)


@dataclass(frozen=True, slots=True)
class Hit:
    """One entry of a trace.

    Attributes:
        tier: its name; ``__PROFILE__`` for a profile.
        policy: which policy.
        trace_name: the policy's name in text form.
        action: ``allow``, ``deny`` or ``pass``.
        rule_index: position in that direction's list; -1 the tier's default action.
        trigger: with -1, the policy that made the tier apply and that the entry names; else None.
        position: rank of the policy in the whole order of evaluation.
    """

    tier: str
    policy: PolicyRef
    trace_name: str
    action: str
    rule_index: int
    trigger: PolicyRef | None = None
    position: int = 0

    def text(self, index: int) -> str:
        """The documented form, with five parts."""
        return f"{index}|{self.tier}|{self.trace_name}|{self.action}|{self.rule_index}"


@dataclass(frozen=True, slots=True)
class Trace:
    """The hits of one flow in one direction.

    Attributes:
        enforced: staged policies left out; the last hit decides.
        pending: as it would be were staged policies enforced.
    """

    enforced: tuple[Hit, ...]
    pending: tuple[Hit, ...]

    @property
    def action(self) -> str:
        """``allow`` or ``deny``: the enforced verdict."""
        return self.enforced[-1].action

    @property
    def pending_action(self) -> str:
        """``allow`` or ``deny``: the verdict were staged policies enforced."""
        return self.pending[-1].action

    @property
    def holds_deny(self) -> bool:
        """Whether any hit denies, staged ones included; such flows are aggregated as denied ones."""
        return any(hit.action == "deny" for hit in (*self.enforced, *self.pending))

    def enforced_strings(self) -> tuple[str, ...]:
        """``policies.enforced_policies``."""
        return tuple(hit.text(index) for index, hit in enumerate(self.enforced))

    def pending_strings(self) -> tuple[str, ...]:
        """``policies.pending_policies``."""
        return tuple(hit.text(index) for index, hit in enumerate(self.pending))

    def all_strings(self) -> tuple[str, ...]:
        """``policies.all_policies``: enforced hits and staged ones, in the order of evaluation."""
        staged = tuple(hit for hit in self.pending if hit.policy.staged and hit not in self.enforced)
        merged = sorted((*self.enforced, *staged), key=lambda hit: hit.position)
        return tuple(hit.text(index) for index, hit in enumerate(merged))


@dataclass(frozen=True, slots=True)
class TraceEntry:
    """A hit read from text.

    Attributes:
        namespace: None when the policy has none.
        kind_prefix: ``knp.``, ``kanp.``, ``kbanp.``, ``kcnp.`` or empty.
        name: without namespace, kind prefix, tier and ``staged:``.
        rule_index: -2 in the older form.
    """

    index: int
    tier: str
    namespace: str | None
    kind_prefix: str
    name: str
    staged: bool
    action: str
    rule_index: int


_KIND_PREFIXES: Final = ("knp.", "kanp.", "kbanp.", "kcnp.")
_OPEN_KINDS: Final = {
    "np": "", "gnp": "", "knp": "knp.", "kcnp": "kcnp.", "snp": "", "sgnp": "", "sknp": "knp.", "pro": "",
}  # fmt: skip
"""Open-source Calico's short kinds, and the prefix that stands for each in the documented form."""


def parse_trace_entry(text: str) -> TraceEntry:
    """Read an entry of ``policies.*`` of any era; ``staged:`` may stand anywhere in the name.

    Raises:
        ValueError: not such an entry; says what is accepted.
    """
    parts = text.split("|")
    if len(parts) not in (4, 5) or not parts[0].isdecimal():
        raise ValueError(f"trace entry {text!r}: accepted is index|tier|policy|action[|rule index]")
    index, tier, policy, action, *rest = parts
    if action not in ("allow", "deny", "pass"):
        raise ValueError(f"trace entry {text!r}: action {action!r}; accepted: allow, deny, pass")
    try:
        rule_index = int(rest[0]) if rest else UNKNOWN_RULE
    except ValueError:
        raise ValueError(f"trace entry {text!r}: rule index {rest[0]!r}; accepted: an integer") from None
    opened, colon, rest_of_name = policy.partition(":")
    if colon and opened in _OPEN_KINDS:
        staged, kind_prefix, name = opened.startswith("s"), _OPEN_KINDS[opened], rest_of_name
        namespace, slash, local = name.rpartition("/")
    else:
        staged = "staged:" in policy
        namespace, slash, local = policy.replace("staged:", "", 1).rpartition("/")
        kind_prefix = next((prefix for prefix in _KIND_PREFIXES if local.startswith(prefix)), "")
        local = local.removeprefix(kind_prefix)
    local = local.removeprefix(f"{tier}.")
    return TraceEntry(int(index), tier, namespace if slash else None, kind_prefix, local, staged, action, rule_index)
