"""Fetch and build the real services that tests run against, into the user's cache folder: all, or those named."""

from __future__ import annotations

import importlib
import pkgutil
import sys

import tests.services


def main() -> None:
    """Call ``install()`` of every service module; one that can't be had is named and hides no other."""
    for module in sorted(pkgutil.iter_modules(tests.services.__path__), key=lambda each: each.name):
        if module.name == "__main__" or (sys.argv[1:] and module.name not in sys.argv[1:]):
            continue
        service = importlib.import_module(f"tests.services.{module.name}")
        install = getattr(service, "install", None)
        if install is None:
            continue
        try:
            print(f"tierflow: {module.name}: {install()}", flush=True)
        except Exception as error:  # noqa: BLE001 - one service that can't be had must not hide the others
            print(f"tierflow: {module.name}: can't be had here: {error}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
