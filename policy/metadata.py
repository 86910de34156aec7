"""Names, labels and annotations, by Kubernetes' rules and Calico's narrower ones for tiers and policies."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from tierflow.policy.labels import NAMESPACE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tierflow.policy.document import Fields

MAX_NAME: Final = 253
MAX_TIER_NAME: Final = 63
MAX_ANNOTATIONS: Final = 256 * 1024

_LABEL: Final = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN: Final = rf"{_LABEL}(\.{_LABEL})*"
_NAME: Final = re.compile(_SUBDOMAIN)
_TIER_NAME: Final = re.compile(_LABEL)
_POLICY_NAME: Final = re.compile(rf"({_LABEL}\.)?{_LABEL}|(knp|ossg)\.default\.{_SUBDOMAIN}")
_GLOBAL_POLICY_NAME: Final = re.compile(rf"({_LABEL}\.)?{_LABEL}")
_QUALIFIED: Final = re.compile(rf"({_SUBDOMAIN}/)?[A-Za-z0-9]([-A-Za-z0-9_.]{{0,61}}[A-Za-z0-9])?")
_LABEL_VALUE: Final = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")

_CHARACTERS: Final = "lower-case letters, digits and -, a letter or digit at both ends"
_ACCEPTED_KEY: Final = "a label: up to 63 letters, digits, -, _ and ., after a domain and / if it has one"
_ACCEPTED_VALUE: Final = "up to 63 letters, digits, -, _ and ., a letter or digit at both ends"


def read_name(metadata: Fields) -> str:
    """The name of an object."""
    return _read_name(metadata, _NAME, MAX_NAME, f"{_CHARACTERS}, in parts with a dot between them")


def read_tier_name(metadata: Fields) -> str:
    """The name of a tier, which is a part of other names and so has no dot."""
    return _read_name(metadata, _TIER_NAME, MAX_TIER_NAME, f"{_CHARACTERS}, no dot")


def read_policy_name(metadata: Fields, *, is_global: bool) -> str:
    """The name of one of Calico's policies, with the tier before a dot or without."""
    pattern = _GLOBAL_POLICY_NAME if is_global else _POLICY_NAME
    return _read_name(metadata, pattern, MAX_NAME, f"{_CHARACTERS}, after the tier and a dot or without")


def _read_name(metadata: Fields, pattern: re.Pattern[str], longest: int, accepted: str) -> str:
    name = metadata.text("name")
    if len(name) > longest:
        metadata.report("name", name, f"at most {longest} characters")
    elif name and not pattern.fullmatch(name):
        metadata.report("name", name, accepted)
    return name


def read_labels(fields: Fields, name: str) -> dict[str, str]:
    """Labels that Kubernetes would store; a wrong one is left out."""
    labels: dict[str, str] = {}
    for key, value in fields.labels(name).items():
        if not _is_qualified(key):
            fields.report(f"{name}.{key}", key, _ACCEPTED_KEY)
        elif not _LABEL_VALUE.fullmatch(value):
            fields.report(f"{name}.{key}", value, _ACCEPTED_VALUE)
        else:
            labels[key] = value
    return labels


def read_label(fields: Fields, name: str) -> str:
    """The name of a label."""
    key = fields.text(name)
    if key and not _is_qualified(key):
        fields.report(name, key, _ACCEPTED_KEY)
        return ""
    return key


def read_label_values(fields: Fields, name: str) -> list[str]:
    """Values of a label; a wrong one is left out."""
    found: list[str] = []
    for path, value in fields.texts(name):
        if _LABEL_VALUE.fullmatch(value):
            found.append(value)
        else:
            fields.place.report(path, value, _ACCEPTED_VALUE)
    return found


def read_set_labels(metadata: Fields) -> dict[str, str]:
    """The labels of a network set; the namespace's is Calico's own."""
    labels = read_labels(metadata, "labels")
    if NAMESPACE in labels:
        metadata.report(f"labels.{NAMESPACE}", labels.pop(NAMESPACE), "no such label: it stands for the namespace")
    return labels


def check_annotations(fields: Fields) -> None:
    """Annotations: their names, and their size together."""
    annotations = fields.labels("annotations")
    for key in annotations:
        if not _is_qualified(key.lower()):
            fields.report(f"annotations.{key}", key, _ACCEPTED_KEY)
    size = _size(annotations)
    if size > MAX_ANNOTATIONS:
        fields.report("annotations", f"{size} bytes", f"at most {MAX_ANNOTATIONS} bytes")


def _size(annotations: Mapping[str, str]) -> int:
    return sum(len(key.encode()) + len(value.encode()) for key, value in annotations.items())


def _is_qualified(key: str) -> bool:
    prefix, slash, _ = key.rpartition("/")
    return bool(_QUALIFIED.fullmatch(key)) and (not slash or len(prefix) <= MAX_NAME)
