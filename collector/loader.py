"""Compiles and loads the eBPF program with BCC in a process of its own, and pins what it made.

Run as ``python -m tierflow.collector.loader FOLDER COUNTER_ENTRIES CONVERSATION_ENTRIES SCRATCH``; it exits when all is
pinned in FOLDER on a bpf file system, and the compiler's memory goes with it. SCRATCH is an empty folder, which it
removes; whoever starts it does so too, since it may be killed.
"""

from __future__ import annotations

import importlib
import os
import shutil
import sys
from pathlib import Path
from typing import Any, Final

from tierflow.collector.map_layout import SOURCE_FOLDER
from tierflow.schemas.errors import TierflowError, UnavailableError

DIST_PACKAGES: Final = Path("/usr/lib/python3/dist-packages")
"""Where Debian installs python3-bpfcc."""


def import_bcc() -> Any:
    """BCC's Python module, from Debian's folder where the running Python doesn't have it.

    The folder is on the path only for this import, and last, so that nothing else is taken from it.

    Raises:
        UnavailableError: python3-bpfcc isn't installed.
    """
    sys.path.append(str(DIST_PACKAGES))
    try:
        return importlib.import_module("bcc")
    except ImportError as error:
        raise UnavailableError(
            f"eBPF: BCC for Python isn't installed ({error}); install python3-bpfcc, or use --source synthetic"
        ) from error
    finally:
        sys.path.remove(str(DIST_PACKAGES))


def kernel_headers(folder: Path, modules: Path = Path("/lib/modules"), sources: Path = Path("/usr/src")) -> Path | None:
    """What BCC shall take for the kernel's headers; None where it finds the running kernel's by itself.

    Debian splits headers into an architecture's folder and a common one; they are joined by links in ``folder``.
    Headers of another kernel version serve: the program uses only the stable part of them.

    Raises:
        UnavailableError: no headers are installed.
    """
    own = modules / os.uname().release
    if (own / "build").is_dir() or Path("/sys/kernel/kheaders.tar.xz").exists():
        return None
    found = sorted(path for path in sources.glob("linux-headers-*") if (path / "include/generated/autoconf.h").exists())
    if not found:
        raise UnavailableError("eBPF: no kernel headers; install linux-headers-amd64 (or your architecture's)")
    specific = found[-1]
    common = specific.with_name(specific.name.rsplit("-", 1)[0] + "-common")
    parts = [part for part in (common, specific) if part.is_dir()]
    arch = "x86" if os.uname().machine == "x86_64" else {"aarch64": "arm64"}.get(os.uname().machine, "")
    for inside in ("include", f"arch/{arch}/include"):
        (folder / inside).mkdir(parents=True)
        for part in parts:
            for entry in (part / inside).iterdir():
                link = folder / inside / entry.name
                if not link.exists():
                    link.symlink_to(entry)
    return folder


def load(folder: Path, counter_entries: int, conversation_entries: int, scratch: Path) -> None:
    """Compile, load and pin maps and programs under ``folder``.

    Raises:
        UnavailableError: something that is needed is missing, or the kernel refused the program.
    """
    bcc = import_bcc()
    headers = kernel_headers(scratch)
    if headers is not None:
        os.environ["BCC_KERNEL_SOURCE"] = str(headers)
    flags = [
        f"-I{SOURCE_FOLDER}",
        f"-DCOUNTER_ENTRIES={counter_entries}",
        f"-DCONVERSATION_ENTRIES={conversation_entries}",
        "-Wno-everything",  # of the kernel's own headers
    ]
    try:
        program = bcc.BPF(src_file=str(SOURCE_FOLDER / "conversations.c"), cflags=flags)
        functions = {name: program.load_func(name, bcc.BPF.SCHED_CLS).fd for name in ("from_pod", "to_pod")}
    except Exception as error:  # BCC raises nothing narrower
        raise UnavailableError(f"eBPF: the program could not be compiled or loaded: {error}") from error
    names = ("counters_a", "counters_b", "active", "conversations", "losses", "said", "epoch")
    descriptors = {name: program[name].map_fd for name in names} | functions
    for name, fd in descriptors.items():
        if bcc.lib.bpf_obj_pin(fd, os.fsencode(folder / name)) != 0:
            raise UnavailableError(f"eBPF: could not pin {folder / name}")


def main() -> None:
    """Load for the collector that started this process; errors are one line on stderr."""
    scratch = Path(sys.argv[4])
    try:
        load(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), scratch)
    except TierflowError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(error.exit_code)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


if __name__ == "__main__":
    main()
