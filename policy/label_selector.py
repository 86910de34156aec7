"""Kubernetes' label selectors as Calico's selectors."""

from __future__ import annotations

from typing import Final

from tierflow.policy.document import ABSENT, Fields
from tierflow.policy.labels import ORCHESTRATOR
from tierflow.policy.metadata import read_label, read_label_values, read_labels

OPERATORS: Final = ("In", "NotIn", "Exists", "DoesNotExist")
PODS: Final = f"{ORCHESTRATOR} == 'k8s'"
"""Selects pods, and nothing else that has labels."""


def read_pods(fields: Fields, name: str) -> str:
    """The pods that a label selector selects; all pods if it is empty or absent."""
    return " && ".join([PODS, *_terms(fields, name)])


def read_namespaces(fields: Fields, name: str) -> str:
    """The namespaces that a label selector selects; all of them if it is empty or absent."""
    return " && ".join(_terms(fields, name)) or "all()"


def _terms(fields: Fields, name: str) -> list[str]:
    inner = fields.fields(name)
    terms = [f"{key} == '{value}'" for key, value in sorted(read_labels(inner, "matchLabels").items())]
    for path, value in inner.items("matchExpressions"):
        term = _expression(Fields(fields.place, path, value))
        if term:
            terms.append(term)
    inner.close()
    return terms


def _expression(fields: Fields) -> str:
    """One expression; empty when it is wrong."""
    key = read_label(fields, "key")
    if not fields.has("key"):
        fields.report("key", ABSENT, "a label")
    operator = fields.choice("operator", OPERATORS, "")
    values = read_label_values(fields, "values")
    fields.close()
    if fields.values.get("operator") not in OPERATORS:
        return ""
    if (operator in ("In", "NotIn")) != bool(fields.values.get("values")):
        wanted = "at least one text" if operator in ("In", "NotIn") else f"nothing with operator {operator}"
        fields.report("values", fields.values.get("values", ABSENT), wanted)
        return ""
    if not key:
        return ""
    listed = ", ".join(f"'{value}'" for value in values)
    match operator:
        case "In":
            return f"{key} in {{{listed}}}"
        case "NotIn":
            return f"{key} not in {{{listed}}}"
        case "Exists":
            return f"has({key})"
        case _:
            return f"!has({key})"
