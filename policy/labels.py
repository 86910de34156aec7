"""The labels that selectors see: an object's own and those it inherits (Calico's profiles do the same upstream)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tierflow.policy.selector import All, And, Compare, Global, Has, In, Node, Not, Or, parse_selector

if TYPE_CHECKING:
    from tierflow.policy.model import Endpoint, EntityRule, NetworkSet, Policy, Resources

NAMESPACE: Final = "projectcalico.org/namespace"
SERVICE_ACCOUNT: Final = "projectcalico.org/serviceaccount"
ORCHESTRATOR: Final = "projectcalico.org/orchestrator"
NAME: Final = "projectcalico.org/name"
NAMESPACE_PREFIX: Final = "pcns."
SERVICE_ACCOUNT_PREFIX: Final = "pcsa."


def endpoint_labels(resources: Resources, endpoint: Endpoint) -> dict[str, str]:
    """All labels of an endpoint; its own win over inherited ones."""
    labels: dict[str, str] = {}
    profiles = {profile.name: profile for profile in resources.profiles}
    for name in profile_names(resources, endpoint):
        if name in profiles:
            labels |= profiles[name].labels_to_apply
    if endpoint.kind == "wep":
        labels |= _namespace_labels(resources, endpoint.namespace)
        account = endpoint.service_account
        if account:
            own = resources.service_accounts.get((endpoint.namespace, account), {})
            labels |= {SERVICE_ACCOUNT_PREFIX + key: value for key, value in own.items()}
            labels[SERVICE_ACCOUNT_PREFIX + NAME] = account
    labels |= endpoint.labels
    if endpoint.kind == "wep":
        labels[NAMESPACE] = endpoint.namespace
        labels[ORCHESTRATOR] = "k8s"
        if endpoint.service_account:
            labels[SERVICE_ACCOUNT] = endpoint.service_account
    return labels


def network_set_labels(resources: Resources, network_set: NetworkSet) -> dict[str, str]:
    """All labels of a network set; one in a namespace inherits the namespace's."""
    if network_set.namespace is None:
        return dict(network_set.labels)
    inherited = _namespace_labels(resources, network_set.namespace)
    return inherited | dict(network_set.labels) | {NAMESPACE: network_set.namespace}


def profile_names(resources: Resources, endpoint: Endpoint) -> tuple[str, ...]:
    """The profiles of an endpoint in order: a pod's namespace and service account, or those a host endpoint lists."""
    if endpoint.kind == "wep":
        account = (f"ksa.{endpoint.namespace}.{endpoint.service_account}",) if endpoint.service_account else ()
        return (f"kns.{endpoint.namespace}", *account)
    return next((each.profiles for each in resources.host_endpoints if each.name == endpoint.name), ())


def _namespace_labels(resources: Resources, namespace: str) -> dict[str, str]:
    own = resources.namespaces.get(namespace, {})
    labels = {NAMESPACE_PREFIX + key: value for key, value in own.items()}
    labels[NAMESPACE_PREFIX + NAME] = namespace
    return labels


def policy_selector(policy: Policy) -> Node:
    """Which endpoints a policy applies to, over the labels that endpoints have here.

    In a global policy, a namespaceSelector turns every ``all()`` beside it into "in some namespace", and a
    serviceAccountSelector into "with a service account", as upstream's update processors do.
    """
    own = [parse_selector(policy.selector)] if policy.selector else []
    accounts = policy.service_account_selector
    if policy.namespace is not None:
        terms: list[Node] = [Compare(NAMESPACE, "==", policy.namespace)]
        if accounts:
            terms.append(_prefixed(parse_selector(accounts), SERVICE_ACCOUNT_PREFIX))
        return _both([*terms, *own])
    if policy.namespace_selector:
        scope = _prefixed(parse_selector(policy.namespace_selector), NAMESPACE_PREFIX)
        own = [_with_all(each, NAMESPACE) for each in (scope, *own)]
    if accounts:
        scope = _prefixed(parse_selector(accounts), SERVICE_ACCOUNT_PREFIX)
        own = [_with_all(each, SERVICE_ACCOUNT) for each in (scope, *own)]
    return _both(own)


def _with_all(node: Node, label: str) -> Node:
    """The selector with "has the label" in place of ``all()``."""
    match node:
        case All():
            return Has(label)
        case Not():
            return Not(_with_all(node.term, label))
        case And():
            return And(tuple(_with_all(term, label) for term in node.terms))
        case Or():
            return Or(tuple(_with_all(term, label) for term in node.terms))
        case _:
            return node


def entity_selectors(entity: EntityRule, namespace: str | None) -> tuple[Node | None, Node | None]:
    """What one side of a rule selects.

    As soon as any selector stands on a side of a namespaced policy, a bare notSelector included, the side is confined
    to the policy's namespace or to those of the namespaceSelector, and everything must hold for the same endpoint or
    network set.

    Returns:
        (selected, excluded): ``selected`` None when addresses that nobody holds match too; ``excluded`` not None only
        then, for holders that must not hold the address.
    """
    terms: list[Node] = []
    if entity.namespace_selector:
        terms.append(_prefixed(parse_selector(entity.namespace_selector), NAMESPACE_PREFIX))
    elif namespace is not None and (
        entity.selector or entity.not_selector or entity.service_account_names or entity.service_account_selector
    ):
        terms.append(Compare(NAMESPACE, "==", namespace))
    if entity.service_account_selector:
        terms.append(_prefixed(parse_selector(entity.service_account_selector), SERVICE_ACCOUNT_PREFIX))
    if entity.service_account_names:
        terms.append(In(SERVICE_ACCOUNT, frozenset(entity.service_account_names), negated=False))
    if entity.selector:
        terms.append(parse_selector(entity.selector))
    excluded = parse_selector(entity.not_selector) if entity.not_selector else None
    if not terms:
        return None, excluded
    if excluded is not None:
        terms.append(Not(excluded))
    return _both(terms), None


def _both(terms: list[Node]) -> Node:
    if not terms:
        return All()
    return terms[0] if len(terms) == 1 else And(tuple(terms))


def _prefixed(node: Node, prefix: str) -> Node:
    """The selector over the labels that a namespace or service account hands down.

    In a namespace selector ``all()`` is "in some namespace" and ``global()`` "in none".
    """
    match node:
        case All():
            return Has(NAMESPACE) if prefix == NAMESPACE_PREFIX else node
        case Global():
            return Not(Has(NAMESPACE))
        case Has():
            return Has(prefix + node.label)
        case Compare():
            return Compare(prefix + node.label, node.operator, node.value)
        case In():
            return In(prefix + node.label, node.values, node.negated)
        case Not():
            return Not(_prefixed(node.term, prefix))
        case And():
            return And(tuple(_prefixed(term, prefix) for term in node.terms))
        case Or():
            return Or(tuple(_prefixed(term, prefix) for term in node.terms))
        case _:
            raise TypeError(f"unknown selector node {node!r}")
