"""Folders of Kubernetes manifests as a source of the inventory: YAML and JSON, lists included, watched for changes.

An object in a file exists; a pod is an endpoint when its ``status`` gives it an address, as in a dump of a cluster.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import orjson
import yaml

from tierflow.inventory.fields import MalformedObject
from tierflow.inventory.kinds import kind_of
from tierflow.inventory.names import Naming, calico_name
from tierflow.inventory.objects import Reduced, consequence, reduce
from tierflow.inventory.versions import Versions
from tierflow.policy.document import Problem
from tierflow.policy.resources import parse_documents
from tierflow.schemas.inventory import OBJECT_KINDS, POLICY

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tierflow.policy.model import Resources
    from tierflow.schemas.inventory import ObjectVersion

SUFFIXES: Final = frozenset({".yaml", ".yml", ".json"})
MOST_LEVELS: Final = 200
"""Of lists and mappings within one another; an object of Kubernetes has some 20."""
# libyaml's loader is an order of magnitude faster and is in every wheel; the pure one is for other platforms.
_Loader: Final[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

Stamp = tuple[int, int, int]
"""Modification time in ns, size, inode: what changes when a file does."""


@dataclass(frozen=True, slots=True)
class _File:
    stamp: Stamp
    reduced: tuple[Reduced, ...]
    problems: tuple[str, ...]
    policies_left_out: int = 0


def documents_of(path: Path) -> Iterator[tuple[str, int, dict[str, Any]]]:
    """File, document index and object of each object in a file; a list's items count as documents of their own.

    Raises:
        MalformedObject: the file is no YAML (or JSON), or a document in it is no mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
        loaded = [orjson.loads(text)] if path.suffix == ".json" else _yaml(text)
    except (yaml.YAMLError, ValueError) as error:
        problem = " ".join(str(error).split())
        raise MalformedObject("text", problem[:200], "YAML or JSON in UTF-8") from error
    index = 0
    for document in loaded:
        if document is None:
            continue
        if not isinstance(document, dict):
            raise MalformedObject(f"document {index}", document, "a Kubernetes object")
        items = document.get("items") if str(document.get("kind", "")).endswith("List") else [document]
        for item in items or []:
            if not isinstance(item, dict):
                raise MalformedObject(f"document {index}", item, "a Kubernetes object")
            yield str(path), index, item
            index += 1


def _yaml(text: str) -> list[Any]:
    """The documents of a YAML text.

    Raises:
        MalformedObject: too many levels. libyaml's composer recurses in C: where the stack ends, so does the process.
    """
    # Each level takes a bracket, or begins further right than the one around it.
    if text.count("[") + text.count("{") + max(map(len, text.splitlines()), default=0) > MOST_LEVELS:
        depth = 0
        for event in yaml.parse(text, Loader=_Loader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > MOST_LEVELS:
                raise MalformedObject("text", f"more than {MOST_LEVELS} levels", "less nesting")
    return list(yaml.load_all(text, Loader=_Loader))


def manifest_files(folder: Path) -> list[Path]:
    """The manifests below a folder, in order."""
    return sorted(path for path in folder.rglob("*") if path.suffix in SUFFIXES and path.is_file())


def load_folder(folder: Path) -> tuple[Resources, list[Problem]]:
    """The policies and what they refer to, of all manifests below a folder; what can't be used is a problem."""
    documents: list[tuple[str, int, dict[str, Any]]] = []
    problems: list[Problem] = []
    for path in manifest_files(folder):
        try:
            documents.extend(documents_of(path))
        except MalformedObject as error:
            problems.append(Problem(str(path), 0, "file", error.field, str(error.found), error.accepted))
    resources, more = parse_documents(documents)
    return resources, problems + more


class ManifestSource:
    """Looks at folders, and says what began and ended since it last did."""

    __slots__ = ("_files", "_folders", "_naming", "_versions", "problems")

    def __init__(self, folders: Sequence[Path], versions: Versions | None = None, naming: Naming = calico_name) -> None:
        """``versions`` is what has been published already, ``naming`` names pods."""
        self._naming = naming
        self._folders = tuple(folders)
        self._versions = versions if versions is not None else Versions()
        self._files: dict[Path, _File] = {}
        self.problems: tuple[str, ...] = ()

    @property
    def versions(self) -> Versions:
        """What has been published."""
        return self._versions

    @property
    def policies_left_out(self) -> int:
        """Policies in the files that can't be used."""
        return sum(each.policies_left_out for each in self._files.values())

    def poll(self, now_ns: int, *, since_ns: int | None = None) -> list[ObjectVersion]:
        """Versions that began or ended since the call before; empty when no file changed.

        Args:
            now_ns: the time of changes found.
            since_ns: since when an object that gives no time of its own holds, ``now_ns`` if None; 0 at the first call
                of a source whose objects have been there all along.
        """
        if not self._read_changed():
            return []
        self.problems = tuple(problem for file in self._files.values() for problem in file.problems)
        wanted: dict[tuple[str, str], Reduced] = {}
        for path in sorted(self._files):
            for each in self._files[path].reduced:
                wanted[each.kind, each.key] = each
        messages: list[ObjectVersion] = []
        for kind in sorted({kind for kind, _ in wanted} | (self._versions.kinds() & OBJECT_KINDS)):
            keys = {key for of_kind, key in wanted if of_kind == kind and wanted[of_kind, key].object is not None}
            messages += self._versions.retain(kind, keys, now_ns=now_ns)
        for (kind, key), each in wanted.items():
            if each.object is not None:
                began = each.began_ns if each.began_ns is not None else since_ns
                messages += self._versions.put(kind, key, each.object, began_ns=began, now_ns=now_ns)
        return messages

    def _read_changed(self) -> bool:
        changed = False
        present: dict[Path, Stamp] = {}
        for folder in self._folders:
            for path in manifest_files(folder) if folder.is_dir() else ():
                try:
                    status = path.stat()
                except FileNotFoundError:
                    # It went between the listing and now: absent.
                    continue
                present[path] = (status.st_mtime_ns, status.st_size, status.st_ino)
        for path in set(self._files) - set(present):
            del self._files[path]
            changed = True
        for path, stamp in present.items():
            known = self._files.get(path)
            if known is None or known.stamp != stamp:
                self._files[path] = _read(path, stamp, known, self._naming)
                changed = True
        return changed


def _read(path: Path, stamp: Stamp, before: _File | None, naming: Naming) -> _File:
    problems, reduced, left_out = [], [], 0
    try:
        documents = list(documents_of(path))
    except OSError as error:
        return _File(stamp, (), (f"{path}: {error.strerror or error}",))
    except MalformedObject as error:
        # A file that is being written is broken for a moment: what it said before still holds.
        kept, left_out = (before.reduced, before.policies_left_out) if before else ((), 0)
        return _File(stamp, kept, (f"{path}: {error}",), left_out)
    for file, index, manifest in documents:
        kind = kind_of(manifest.get("apiVersion"), manifest.get("kind"))
        if kind is None:
            continue
        try:
            found = reduce(kind, manifest, naming)
            _check_encodable(found)
            reduced.append(found)
        except MalformedObject as error:
            metadata = manifest.get("metadata")
            name = metadata.get("name") if isinstance(metadata, dict) else None
            problems.append(f"{file}: document {index}: {kind.name} {name or '(no name)'}: {error}{consequence(kind)}")
            left_out += kind.becomes[0] == POLICY
    return _File(stamp, tuple(reduced), tuple(problems), left_out)


def _check_encodable(found: Reduced) -> None:
    """YAML can hold what JSON, and so no object of a cluster, can: bytes, endless numbers, keys that are no texts."""
    try:
        orjson.dumps(found.object)
    except orjson.JSONEncodeError as error:
        raise MalformedObject("content", str(error), "what JSON can hold") from error
