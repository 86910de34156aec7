"""Calico's selector language: text to a tree, and the tree against one label set.

Grammar (Calico, "Selectors"; blanks are space and tab, and there are no escapes inside quotes)::

    or         := and { "||" and }
    and        := unary { "&&" unary }
    unary      := { "!" } primary
    primary    := "(" or ")" | "all(" ")" | "global(" ")" | "has(" label ")" | label operator
    operator   := "==" text | "!=" text | "in" set | "not in" set | "contains" text | "starts with" text
                | "ends with" text
    set        := "{" [ text { "," text } [ "," ] ] "}"
    label      := 1 to 512 of  A-Z a-z 0-9 _ . / -
    text       := "..." | '...'

An empty selector selects everything, like ``all()``; ``!=`` and ``not in`` hold where the label is absent.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MAX_LABEL_LENGTH: Final = 512
MAX_DEPTH: Final = 50
"""Parentheses inside each other; upstream's selectors are at most 1024 long and bound themselves in this way."""

_LABEL: Final = re.compile(r"[A-Za-z0-9_./-]+")
_WORD_OPERATORS: Final = (
    ("contains", re.compile(r"contains(?![A-Za-z0-9_./-])")),
    ("starts with", re.compile(r"starts[ \t]*with[ \t]*(?![A-Za-z0-9_./-])")),
    ("ends with", re.compile(r"ends[ \t]*with[ \t]*(?![A-Za-z0-9_./-])")),
    ("not in", re.compile(r"not[ \t]*in[ \t]*(?![A-Za-z0-9_./-])")),
    ("in", re.compile(r"in(?![A-Za-z0-9_./-])")),
)
_OPERATORS: Final = "one of ==, !=, in, not in, contains, starts with, ends with"


class SelectorError(ValueError):
    """A selector doesn't parse.

    Attributes:
        position: 0-based offset of the first character that doesn't fit.
        expected: what would have fitted.
    """

    def __init__(self, text: str, position: int, expected: str) -> None:
        super().__init__(f"at position {position} of {text!r}: expected {expected}")
        self.position = position
        self.expected = expected


class Node(Protocol):
    """One node of a selector's tree."""

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether the label set is selected."""
        ...


@dataclass(frozen=True, slots=True)
class All:
    """``all()``: everything."""

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Always true."""
        del labels
        return True

    def __str__(self) -> str:
        return "all()"


@dataclass(frozen=True, slots=True)
class Global:
    """``global()``: what isn't in a namespace; meaningful in a namespace selector only."""

    def matches(self, labels: Mapping[str, str]) -> bool:
        """True without a namespace."""
        return "projectcalico.org/namespace" not in labels

    def __str__(self) -> str:
        return "global()"


@dataclass(frozen=True, slots=True)
class Has:
    """``has(label)``."""

    label: str

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether the label is present, whatever its value."""
        return self.label in labels

    def __str__(self) -> str:
        return f"has({self.label})"


@dataclass(frozen=True, slots=True)
class Compare:
    """``label == "value"`` and the other comparisons with one text.

    Attributes:
        operator: ``==``, ``!=``, ``contains``, ``starts with`` or ``ends with``.
    """

    label: str
    operator: str
    value: str

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Compare the label's value; ``!=`` alone holds where the label is absent."""
        found = labels.get(self.label)
        if found is None:
            return self.operator == "!="
        return self.holds(found)

    def holds(self, found: str) -> bool:
        """Compare a value that is present."""
        match self.operator:
            case "==":
                return found == self.value
            case "!=":
                return found != self.value
            case "contains":
                return self.value in found
            case "starts with":
                return found.startswith(self.value)
            case _:
                return found.endswith(self.value)

    def __str__(self) -> str:
        return f"{self.label} {self.operator} {_quote(self.value)}"


@dataclass(frozen=True, slots=True)
class In:
    """``label in {"a", "b"}``; with ``negated``, ``not in``, which holds where the label is absent."""

    label: str
    values: frozenset[str]
    negated: bool

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether the label's value is in the set, or isn't."""
        found = labels.get(self.label)
        return (found is not None and found in self.values) != self.negated

    def __str__(self) -> str:
        operator = "not in" if self.negated else "in"
        return f"{self.label} {operator} {{{', '.join(_quote(value) for value in sorted(self.values))}}}"


@dataclass(frozen=True, slots=True)
class Not:
    """``!term``."""

    term: Node

    def matches(self, labels: Mapping[str, str]) -> bool:
        """The opposite of the term."""
        return not self.term.matches(labels)

    def __str__(self) -> str:
        return f"!{_grouped(self.term)}"


@dataclass(frozen=True, slots=True)
class And:
    """``term && term ...``."""

    terms: tuple[Node, ...]

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether all terms match."""
        return all(term.matches(labels) for term in self.terms)

    def __str__(self) -> str:
        return " && ".join(_grouped(term) for term in self.terms)


@dataclass(frozen=True, slots=True)
class Or:
    """``term || term ...``."""

    terms: tuple[Node, ...]

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether any term matches."""
        return any(term.matches(labels) for term in self.terms)

    def __str__(self) -> str:
        return " || ".join(_grouped(term) for term in self.terms)


def nodes(node: Node) -> Iterator[Node]:
    """A node and all nodes below it."""
    yield node
    match node:
        case Not():
            yield from nodes(node.term)
        case And() | Or():
            for term in node.terms:
                yield from nodes(term)
        case _:
            pass


def _grouped(term: Node) -> str:
    return f"({term})" if isinstance(term, And | Or) else str(term)


def _quote(value: str) -> str:
    return f"'{value}'" if '"' in value else f'"{value}"'


@lru_cache(maxsize=65536)
def parse_selector(text: str) -> Node:
    """The tree of a selector; the empty text is ``all()``.

    Raises:
        SelectorError: the text isn't a selector; says where and what was expected.
    """
    return _Parser(text).parse()


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.depth = 0

    def parse(self) -> Node:
        self._blanks()
        if self.at == len(self.text):
            return All()
        node = self._or()
        if self.at != len(self.text):
            raise self._error("&&, || or the end")
        return node

    def _or(self) -> Node:
        terms = [self._and()]
        while self._accept("||"):
            terms.append(self._and())
        return terms[0] if len(terms) == 1 else Or(tuple(terms))

    def _and(self) -> Node:
        terms = [self._unary()]
        while self._accept("&&"):
            terms.append(self._unary())
        return terms[0] if len(terms) == 1 else And(tuple(terms))

    def _unary(self) -> Node:
        negations = 0
        while self._accept("!"):
            negations += 1
        node = self._primary()
        if negations % 2 == 0:
            return node
        return node.term if isinstance(node, Not) else Not(node)

    def _primary(self) -> Node:
        opening = self.at
        if self._accept("("):
            self.depth += 1
            if self.depth > MAX_DEPTH:
                raise SelectorError(self.text, opening, f"at most {MAX_DEPTH} parentheses inside each other")
            node = self._or()
            self._require(")")
            self.depth -= 1
            return node
        if self._accept("all("):
            self._require(")")
            return All()
        if self._accept("global("):
            self._require(")")
            return Global()
        if self._accept("has("):
            label = self._label("a label")
            self._require(")")
            return Has(label)
        return self._comparison(self._label("a label, !, (, has(), all() or global()"))

    def _comparison(self, label: str) -> Node:
        for operator in ("==", "!="):
            if self._accept(operator):
                return Compare(label, operator, self._quoted())
        for operator, pattern in _WORD_OPERATORS:
            found = pattern.match(self.text, self.at)
            if found is None:
                continue
            self.at = found.end()
            self._blanks()
            if operator in ("in", "not in"):
                return In(label, self._set(), operator == "not in")
            return Compare(label, operator, self._quoted())
        raise self._error(f"{_OPERATORS} after label {label!r}")

    def _set(self) -> frozenset[str]:
        self._require("{")
        values: set[str] = set()
        while not self._accept("}"):
            values.add(self._quoted())
            if not self._accept(","):
                self._require("}", ", or }")
                break
        return frozenset(values)

    def _quoted(self) -> str:
        quote = self.text[self.at : self.at + 1]
        if quote not in ('"', "'") or not quote:
            raise self._error("a text in quotes")
        end = self.text.find(quote, self.at + 1)
        if end < 0:
            raise self._error(f"a closing {quote} after this one")
        value = self.text[self.at + 1 : end]
        self.at = end + 1
        self._blanks()
        return value

    def _label(self, expected: str) -> str:
        found = _LABEL.match(self.text, self.at)
        if found is None:
            raise self._error(expected)
        if len(found.group()) > MAX_LABEL_LENGTH:
            raise self._error(f"a label of at most {MAX_LABEL_LENGTH} characters")
        self.at = found.end()
        self._blanks()
        return found.group()

    def _accept(self, symbol: str) -> bool:
        if not self.text.startswith(symbol, self.at):
            return False
        self.at += len(symbol)
        self._blanks()
        return True

    def _require(self, symbol: str, expected: str = "") -> None:
        if not self._accept(symbol):
            raise self._error(expected or symbol)

    def _blanks(self) -> None:
        while self.at < len(self.text) and self.text[self.at] in " \t":
            self.at += 1

    def _error(self, expected: str) -> SelectorError:
        return SelectorError(self.text, self.at, expected)
