"""A collector's source without a broker: drains on each line read, and writes what it got where the line says."""

from __future__ import annotations

import sys

import numpy as np

from tierflow.collector.ebpf import EbpfSettings, EbpfSource
from tierflow.schemas.errors import UnavailableError
from tierflow.schemas.record import RECORD


def main() -> None:
    node, pattern, keepalive_s, entries, end = sys.argv[1:6]
    source = EbpfSource(EbpfSettings(node, (pattern,), 1.0, float(keepalive_s), int(entries), end == "hand-over"))
    try:
        source.start()
    except UnavailableError as error:
        print(error, flush=True)
        source.stop()
        return
    print("ready", flush=True)
    try:
        for line in sys.stdin:
            source.follow()
            records, losses = [np.zeros(0, RECORD)], []
            for part in source.drain():
                records.append(part.records.copy())
                losses.append((part.loss.records, part.loss.packets, part.loss.bytes))
            np.savez(line.strip(), records=np.concatenate(records), loss=np.array(losses).sum(axis=0))
            print("drained", flush=True)
    finally:
        source.stop()


if __name__ == "__main__":
    main()
