"""Reading a manifest field by field; every mistake becomes a problem, and reading goes on."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake of the user.

    Attributes:
        file: where the document came from.
        document: its 0-based position there.
        object: ``Kind [namespace/]name``.
        field: path such as ``spec.ingress[0].action``.
        value: what was found, in short.
        accepted: what would have been accepted.
    """

    file: str
    document: int
    object: str
    field: str
    value: str
    accepted: str

    def __str__(self) -> str:
        return (
            f"{self.file}, document {self.document}, {self.object}: {self.field}: {self.value}; accepted: "
            f"{self.accepted}"
        )


class Absent:
    """The value of a field that isn't there."""


ABSENT: Final = Absent()

_SHOWN_LENGTH: Final = 80


@dataclass(slots=True)
class Place:
    """The document being read, and the problems found so far."""

    file: str
    document: int
    object: str
    problems: list[Problem] = field(default_factory=list)

    def joining(self, problems: list[Problem]) -> Place:
        """The same document, for problems that go elsewhere: those it has only beside others."""
        return Place(self.file, self.document, self.object, problems)

    def report(self, path: str, value: Any, accepted: str) -> None:
        """Add a problem."""
        shown = "missing" if value is ABSENT else repr(value)
        if len(shown) > _SHOWN_LENGTH:
            shown = shown[: _SHOWN_LENGTH - 3] + "..."
        self.problems.append(Problem(self.file, self.document, self.object, path, shown, accepted))


class Fields:
    """The fields of one mapping; what is taken is checked, what is left at the end is unknown."""

    def __init__(self, place: Place, path: str, value: Any) -> None:
        self.place = place
        self.path = path
        self._taken: set[str] = set()
        self.values: dict[str, Any] = {}
        if isinstance(value, dict):
            self.values = {str(key): each for key, each in value.items()}
        elif value is not ABSENT and value is not None:
            place.report(path or "document", value, "a mapping")

    def at(self, name: str) -> str:
        """The path of one field."""
        return f"{self.path}.{name}" if self.path else name

    def take(self, name: str) -> Any:
        """The raw value; null counts as absent."""
        self._taken.add(name)
        value = self.values.get(name, ABSENT)
        return ABSENT if value is None else value

    def ignore(self, *names: str) -> None:
        """Fields that are accepted and mean nothing here."""
        self._taken.update(names)

    def report(self, name: str, value: object, accepted: str) -> None:
        """Add a problem about one field."""
        self.place.report(self.at(name), value, accepted)

    def text(self, name: str, default: str = "") -> str:
        """A string."""
        value = self.take(name)
        if value is ABSENT:
            return default
        if not isinstance(value, str):
            self.report(name, value, "a text")
            return default
        return value

    def choice(self, name: str, accepted: Sequence[str], default: str) -> str:
        """One of a few strings; a missing one without a default is a problem."""
        value = self.take(name)
        if value is ABSENT and default:
            return default
        if value not in accepted:
            self.report(name, value, ", ".join(accepted))
            return default or accepted[0]
        return str(value)

    def number(self, name: str) -> float | None:
        """A finite number."""
        value = self.take(name)
        if value is ABSENT:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            self.report(name, value, "a number")
            return None
        return float(value)

    def integer(self, name: str, low: int, high: int) -> int | None:
        """An integer between two bounds, both included."""
        value = self.take(name)
        if value is ABSENT:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            self.report(name, value, f"an integer from {low} to {high}")
            return None
        return value

    def flag(self, name: str) -> bool:
        """A boolean; absent is false."""
        value = self.take(name)
        if value is ABSENT:
            return False
        if not isinstance(value, bool):
            self.report(name, value, "true or false")
            return False
        return value

    def items(self, name: str) -> list[tuple[str, Any]]:
        """(path, value) of each element of a list."""
        value = self.take(name)
        if value is ABSENT:
            return []
        if not isinstance(value, list):
            self.report(name, value, "a list")
            return []
        return [(f"{self.at(name)}[{index}]", each) for index, each in enumerate(value)]

    def texts(self, name: str) -> list[tuple[str, str]]:
        """(path, text) of each element of a list of texts."""
        found: list[tuple[str, str]] = []
        for path, value in self.items(name):
            if isinstance(value, str):
                found.append((path, value))
            else:
                self.place.report(path, value, "a text")
        return found

    def labels(self, name: str) -> dict[str, str]:
        """A mapping of texts to texts."""
        value = self.take(name)
        if value is ABSENT:
            return {}
        if not isinstance(value, dict):
            self.report(name, value, "a mapping of label to text")
            return {}
        labels: dict[str, str] = {}
        for key, each in value.items():
            if isinstance(key, str) and isinstance(each, str):
                labels[key] = each
            else:
                self.report(f"{name}.{key}", each, "a text (quote numbers and true or false)")
        return labels

    def fields(self, name: str) -> Fields:
        """A mapping inside this one."""
        return Fields(self.place, self.at(name), self.take(name))

    def has(self, name: str) -> bool:
        """Whether the field is there and not null."""
        return self.values.get(name) is not None

    def close(self) -> None:
        """Report every field that nobody took."""
        for name in self.values:
            if name not in self._taken:
                self.report(name, self.values[name], f"no such field; known here: {_listed(self._taken)}")


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))
