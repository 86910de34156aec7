"""Flow-log columns to JSON documents with deterministic ids."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from tierflow.schemas import flow_log
from tierflow.streams.core.aggregate import EVIDENCE
from tierflow.streams.core.texts import digest, members

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tierflow.streams.core.aggregate import Logs
    from tierflow.streams.core.groups import Groups

    U64 = NDArray[np.uint64]

NOT_COLLECTED: Final = {field.name: None for field in flow_log.FIELDS if not field.collected}
_END: Final = members(NOT_COLLECTED) + b"}"

_EVIDENCE: Final = tuple(f'"{each}"' for each in EVIDENCE)


@dataclass(frozen=True, slots=True)
class Slot:
    """The window that documents belong to.

    Attributes:
        cluster: cluster name.
        node: node name.
        start_s: start of the window.
        end_s: its end.
        late: ``""``, or what makes the late logs of one batch their own: its boot id and sequence.
        part: how many times the window was written before because it had grown to its bound.
    """

    cluster: str
    node: str
    start_s: int
    end_s: int
    late: str = ""
    part: int = 0

    def digest(self) -> bytes:
        """Hash of what tells this slot from others."""
        return digest(self.cluster, self.node, self.start_s, self.end_s, self.late, self.part)

    def members(self) -> bytes:
        """The members that all of its documents have."""
        return members({
            "start_time": self.start_s, "end_time": self.end_s, "@timestamp": self.end_s * 1000,
            "cluster": self.cluster, "host": self.node, "late": self.late != "",
        })  # fmt: skip


def document_id(*parts: object) -> str:
    """The id of a document: 32 hexadecimal digits of a hash over its key."""
    return digest(*parts).hex()


def slot_ids(slot: Slot, digest_hi: U64, digest_lo: U64) -> list[str]:
    """Ids of a slot's documents: the key's hash and the slot's, one exclusive-or the other, in hexadecimal."""
    own = np.frombuffer(slot.digest(), ">u8").astype(np.uint64)
    halves = np.stack((digest_hi ^ own[0], digest_lo ^ own[1]), axis=-1).astype(">u8")
    text = halves.tobytes().hex()
    return [text[at : at + 32] for at in range(0, len(text), 32)]


def encode_logs(logs: Logs, slot: Slot, groups: Groups) -> list[bytes]:
    """The JSON of each flow log: what changes from window to window, then what doesn't."""
    rest = slot.members() + _END
    rows = logs.group.tolist()
    rtt_means = np.rint(logs.rtt_sum_us / np.maximum(logs.rtt_count, 1)).astype(np.int64)
    ids = slot_ids(slot, groups.digest_hi[logs.group], groups.digest_lo[logs.group])
    columns = zip(
        ids, map(groups.texts.__getitem__, rows), map(groups.samples.__getitem__, rows), logs.evidence.tolist(),
        logs.flows.tolist(), logs.started.tolist(), logs.completed.tolist(), logs.packets_in.tolist(),
        logs.packets_out.tolist(), logs.bytes_in.tolist(), logs.bytes_out.tolist(), logs.rtt_count.tolist(),
        rtt_means.tolist(), logs.rtt_max_us.tolist(), strict=True,
    )  # fmt: skip
    return [
        b"".join((
            (
                f'{{"id":"{key}","evidence":{_EVIDENCE[evidence]},"num_flows":{flows},"num_flows_started":{started},'
                f'"num_flows_completed":{completed},"packets_in":{packets_in},"packets_out":{packets_out},'
                f'"bytes_in":{bytes_in},"bytes_out":{bytes_out},'
                f'"handshake_rtt_mean_us":{rtt_mean if rtt_count else "null"},'
                f'"handshake_rtt_max_us":{rtt_max if rtt_count else "null"}'
            ).encode(),
            *text, *sample, rest,
        ))
        for key, text, sample, evidence, flows, started, completed, packets_in, packets_out, bytes_in, bytes_out,
        rtt_count, rtt_mean, rtt_max in columns
    ]  # fmt: skip
