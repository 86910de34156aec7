"""``tierflow policy``: lint, trace, judge and show policies from manifests."""

from __future__ import annotations

import dataclasses
import ipaddress
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
import orjson
import yaml
from rich.console import Console
from rich.table import Table

from tierflow.cli.settings import setting
from tierflow.policy import Flow, Problem, Resources, ScalarJudge, Side, parse_documents
from tierflow.policy.board import board
from tierflow.policy.doubts import Doubts, unknowns
from tierflow.policy.explain import Explanation, explain
from tierflow.policy.ports import read_protocol
from tierflow.policy.scalar import in_service
from tierflow.policy.workloads import read_workloads
from tierflow.schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tierflow.policy.explain import DirectionStep, TierStep
    from tierflow.policy.model import Endpoint

SUFFIXES: Final = (".yaml", ".yml", ".json")
UNKNOWN_ADDRESSES: Final = {4: "0.0.0.0", 6: "::"}  # noqa: S104  (no socket is bound: they stand for a pod's address)
_CLIENT_PORT: Final = 40000

_manifests = setting(
    "--manifests",
    required=True,
    type=click.Path(exists=True, path_type=Path),
    help="Folder (or file) of manifests: policies, namespaces, services, workloads.",
)
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group("policy")
def command() -> None:
    """Lint, trace and judge policies."""


@command.command("lint")
@click.argument("folders", metavar="DIR...", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@_json
def lint(folders: tuple[Path, ...], as_json: bool) -> None:
    """Check manifests; print every problem at once, and exit with 1 if there is any. Notes say what is not judged."""
    documents, problems = _read(folders)
    resources, found = parse_documents(documents)
    problems += found
    if as_json:
        click.echo(orjson.dumps([dataclasses.asdict(each) for each in problems], option=orjson.OPT_INDENT_2).decode())
    else:
        for problem in problems:
            click.echo(str(problem))
        for note in _notes(resources):
            click.echo(f"note: {note}", err=True)
        click.echo(f"{len(problems)} problem(s) in {len(documents)} document(s)", err=True)
    if problems:
        raise click.exceptions.Exit(1)


def _notes(resources: Resources) -> Iterator[str]:
    """What is no mistake, and yet isn't judged or may be judged wrongly."""
    for policy in resources.policies:
        if policy.not_judged:
            yield f"{policy.trace_name} is not judged: {policy.not_judged}"
    for unknown in unknowns(resources):
        users = ", ".join(unknown.users)
        if users:
            yield f"{unknown}; the rules of {users} depend on it, and verdicts that would change are marked uncertain"


@command.command("trace")
@_manifests
@click.option("--from", "source", required=True, metavar="NAMESPACE/NAME|ADDRESS", help="Who connects.")
@click.option("--to", "destination", required=True, metavar="NAMESPACE/NAME|ADDRESS", help="To whom: pod or Service.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    required=True,
    help="Destination port; of the Service if TO is one; for ICMP 256 times the type, plus the code.",
)
@click.option("--proto", default="tcp", show_default=True, help="Protocol: name or number.")
@click.option("--verbose", is_flag=True, help="List policies that don't apply and tiers that are not reached, too.")
@_json
def trace(manifests: Path, source: str, destination: str, port: int, proto: str, verbose: bool, as_json: bool) -> None:
    """Explain the verdict of one connection."""
    documents = _documents(manifests)
    resources = _resources(documents)
    workloads = read_workloads(document for _, _, document in documents)
    protocol = _protocol(proto)
    target, target_port, via = _destination(resources, workloads, destination, port, protocol)
    flow = _flow(_side(workloads, source, "--from"), target, protocol, _CLIENT_PORT, target_port)
    found = explain(resources, flow)
    if as_json:
        click.echo(orjson.dumps(found.as_json() | {"service": via}, option=orjson.OPT_INDENT_2).decode())
        return
    click.echo("\n".join(_text(found, via, verbose=verbose)))


@command.command("verdict")
@_manifests
@click.option(
    "--flows",
    required=True,
    type=click.File("rb"),
    help="JSON lines with src, dst (NAMESPACE/NAME or address), proto, sport, dport; - reads standard input.",
)
def verdict(manifests: Path, flows: Any) -> None:
    """Judge many connections: JSON lines in, JSON lines with the verdict and both traces out."""
    documents = _documents(manifests)
    resources = _resources(documents)
    workloads = read_workloads(document for _, _, document in documents)
    judge, doubts = ScalarJudge(resources), Doubts(resources)
    for number, line in enumerate(flows, 1):
        if not line.strip():
            continue
        row = _row(line, number)
        protocol = _protocol(row.get("proto", "tcp"), f"--flows line {number}: proto")
        target, port, _ = _destination(
            resources, workloads, str(row["dst"]), int(row["dport"]), protocol, f"--flows line {number}: dst"
        )
        source = _side(workloads, str(row["src"]), f"--flows line {number}: src")
        flow = _flow(source, target, protocol, int(row.get("sport", _CLIENT_PORT)), port)
        found = judge.verdict(flow)
        actions = (found.action, found.pending_action) if found.judged else (None, None)
        answer: dict[str, Any] = row | {"action": actions[0], "pending_action": actions[1]}
        for direction, each in (("egress", found.egress), ("ingress", found.ingress)):
            answer[direction] = (
                None
                if each is None
                else {
                    "action": each.action,
                    "enforced_policies": each.enforced_strings(),
                    "pending_policies": each.pending_strings(),
                }
            )
        answer["uncertain"] = doubts.about(flow)
        click.echo(orjson.dumps(answer).decode())


@command.command("board")
@_manifests
@_json
def show_board(manifests: Path, as_json: bool) -> None:
    """Show tiers and policies in the order of evaluation."""
    documents = _documents(manifests)
    tiers = board(_resources(documents), read_workloads(document for _, _, document in documents))
    if as_json:
        click.echo(orjson.dumps([dataclasses.asdict(tier) for tier in tiers], option=orjson.OPT_INDENT_2).decode())
        return
    table = Table(box=None)
    for name in ("tier", "order", "policy", "order", "types", "in/out", "endpoints"):
        table.add_column(name, no_wrap=True)
    table.add_column("applies to", overflow="fold")
    for tier in tiers:
        table.add_row(tier.name, _order(tier.order), f"(default: {tier.default_action})", style="bold")
        for policy in tier.policies:
            table.add_row(
                "",
                "",
                policy.trace_name,
                _order(policy.order),
                ", ".join(policy.types),
                f"{policy.ingress_rules}/{policy.egress_rules}",
                str(policy.endpoints),
                f"not judged: {policy.not_judged}" if policy.not_judged else policy.applies_to,
            )
    Console(width=None if sys.stdout.isatty() else 160).print(table)


def _order(order: float | None) -> str:
    return "last" if order is None else f"{order:.12g}"


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    return sorted(each for each in path.rglob("*") if each.suffix in SUFFIXES and each.is_file())


def _read(paths: Sequence[Path]) -> tuple[list[tuple[str, int, Any]], list[Problem]]:
    documents: list[tuple[str, int, Any]] = []
    problems: list[Problem] = []
    files = [each for path in paths for each in _files(path)]
    if not files:
        raise ConfigurationError(f"{', '.join(map(str, paths))}: no manifest there; accepted: {', '.join(SUFFIXES)}")
    for file in files:
        index = 0
        try:
            for document in _load(file, file.read_text(encoding="utf-8")):
                documents.append((str(file), index, document))
                index += 1
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            problems.append(Problem(str(file), index, "?", "document", _syntax(error), "YAML or JSON in UTF-8"))
    return documents, problems


def _syntax(error: Exception) -> str:
    """What is wrong with a file, and where, in one line."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem and error.problem_mark:
        mark = error.problem_mark
        return f"{error.problem} at line {mark.line + 1}, column {mark.column + 1}"
    return " ".join(str(error).split())


def _load(file: Path, text: str) -> Iterator[Any]:
    if file.suffix == ".json":
        yield json.loads(text)
    else:
        yield from yaml.safe_load_all(text)


def _documents(path: Path) -> list[tuple[str, int, Any]]:
    documents, problems = _read([path])
    if problems:
        raise ConfigurationError(f"--manifests: {problems[0]}")
    return documents


def _resources(documents: list[tuple[str, int, Any]]) -> Resources:
    resources, problems = parse_documents(documents)
    if problems:
        more = f" (and {len(problems) - 1} more: tierflow policy lint)" if len(problems) > 1 else ""
        raise ConfigurationError(f"--manifests: {problems[0]}{more}")
    return resources


def _protocol(text: object, where: str = "--proto") -> int:
    number = read_protocol({"icmp6": "icmpv6"}.get(str(text).lower(), text))
    if number is None:
        raise ConfigurationError(f"{where} {text!r}: accepted are tcp, udp, icmp, icmpv6, sctp, udplite or 1 to 255")
    return number


def _row(line: bytes, number: int) -> dict[str, Any]:
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise ConfigurationError(f"--flows line {number}: {error}; accepted: one JSON object a line") from error
    if not isinstance(row, dict) or not {"src", "dst", "dport"} <= row.keys():
        raise ConfigurationError(f"--flows line {number}: accepted: an object with src, dst, proto, sport, dport")
    for name in ("sport", "dport"):
        value = row.get(name, 0)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 65535:
            raise ConfigurationError(f"--flows line {number}: {name} {value!r}; accepted: 0 to 65535")
    return row


def _flow(source: Side, destination: Side, protocol: int, source_port: int, dest_port: int) -> Flow:
    """A flow; an end without an address gets one of the other end's IP version that only all addresses take in."""
    known = source.address or destination.address
    unknown = UNKNOWN_ADDRESSES[ipaddress.ip_address(known).version if known else 4]
    source, destination = (dataclasses.replace(each, address=each.address or unknown) for each in (source, destination))
    return Flow(source, destination, protocol, source_port, dest_port)


def _side(workloads: Sequence[Endpoint], text: str, where: str) -> Side:
    found = _find(workloads, text)
    if found is not None:
        return Side(found.addresses[0] if found.addresses else "", found)
    try:
        address = str(ipaddress.ip_address(text))
    except ValueError:
        known = ", ".join(f"{each.namespace}/{each.name}" for each in workloads)
        raise ConfigurationError(f"{where} {text!r}: accepted are an IP address, or one of {known}") from None
    owner = next((each for each in workloads if address in each.addresses), None)
    return Side(address, owner)


def _find(workloads: Sequence[Endpoint], text: str) -> Endpoint | None:
    namespace, _, name = text.rpartition("/")
    return next((each for each in workloads if (each.namespace, each.name) == (namespace or "default", name)), None)


def _destination(
    resources: Resources,
    workloads: Sequence[Endpoint],
    text: str,
    port: int,
    protocol: int,
    where: str = "--to",
) -> tuple[Side, int, str]:
    """The backend and its port, and the Service on the way there, if the name is one with this port."""
    namespace, _, name = text.rpartition("/")
    service = next(
        (each for each in resources.services if (each.namespace, each.name) == (namespace or "default", name)), None
    )
    if service is None:
        return _side(workloads, text, where), port, ""
    via = f"{service.namespace}/{service.name}:{port}"
    for called, each, number, target in service.ports:
        if (each, number) != (protocol, port):
            continue
        for backend in (each for each in workloads if in_service(service, each)):
            ports = {found: value for found, kind, value in backend.named_ports if kind == protocol}
            real = target if isinstance(target, int) else ports.get(target)
            if real is not None:
                side = Side(backend.addresses[0] if backend.addresses else "", backend)
                return side, real, via
        for known in service.backends or ():
            real = next((at for name, kind, at in known.ports if (name, kind) == (called, protocol)), None)
            if real is not None and known.addresses:
                return _side(workloads, known.addresses[0], where), real, via
    return _side(workloads, text, where), port, ""


def _text(found: Explanation, via: str, *, verbose: bool) -> Iterator[str]:
    word = {"allow": "ALLOWED", "deny": "DENIED"}
    way = f" (through service {via})" if via else ""
    judged = word[found.verdict] if found.egress or found.ingress else "NOT JUDGED"
    yield f"{found.source} -> {found.destination} {found.protocol} port {found.dest_port}{way}: {judged}"
    if found.egress is None and found.ingress is None:
        yield "  neither end is a pod of these manifests, or a node with a HostEndpoint"
        return
    for step in (found.egress, found.ingress):
        if step is not None:
            verb = "leaves" if step.direction == "egress" else "enters"
            yield f"  {verb} {step.endpoint}: {step.action}, by {step.decided_by}"
            yield from (f"    {reason}" for reason in step.because)
    yield from (f"  Uncertain: {doubt}" for doubt in found.uncertain)
    if found.pending_verdict != found.verdict:
        yield f"  Were staged policies enforced: {word[found.pending_verdict]}"
    if found.nearest_change:
        yield f"  Nearest change: {found.nearest_change}"
    yield ""
    yield "Tier by tier (rules count from 0, as in flow logs; the first that matches decides, unless it is Log):"
    for step in (found.egress, found.ingress):
        if step is not None:
            yield ""
            yield from _direction_text(step, verbose=verbose)


def _direction_text(step: DirectionStep, *, verbose: bool) -> Iterator[str]:
    labels = ", ".join(f"{key}={value}" for key, value in sorted(step.labels.items())) or "no labels"
    yield f"{step.direction.capitalize()} of {step.endpoint} ({labels})"
    for tier in step.tiers:
        if tier.outcome == "not reached" and not verbose:
            continue
        yield f"  tier {tier.name}: {tier.outcome}"
        yield from _tier_text(tier, verbose=verbose)
    yield f"  enforced trace: {', '.join(step.enforced)}"
    yield f"  pending trace:  {', '.join(step.pending)}"


def _tier_text(tier: TierStep, *, verbose: bool) -> Iterator[str]:
    decided = False
    for policy in tier.policies:
        if decided and not verbose:
            continue
        if not policy.applies:
            if verbose or not policy.staged:
                yield f"    - {policy.name} doesn't apply: {policy.why}"
            continue
        staged = " (staged: reported, not enforced)" if policy.staged else ""
        yield f"    * {policy.name} applies{staged}: {policy.why}"
        for rule in policy.rules:
            if rule.outcome == "not reached":
                continue
            why = f": {rule.why}" if rule.why else ""
            mark = "=>" if rule.outcome == "matches" else "  "
            yield f"      {mark} rule {rule.index} {rule.action} {rule.conditions}: {rule.outcome}{why}"
            decided = decided or (rule.outcome == "matches" and rule.action != "Log" and not policy.staged)
