"""The raw record and its batch: the same bytes in C, numpy and on the topic."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tierflow.collector
from tierflow.schemas.errors import RejectedRecord, RejectReason
from tierflow.schemas.fields import Field, FieldType, json_schema
from tierflow.schemas.record import RECORD, address_columns, address_halves, address_text
from tierflow.schemas.topics import ALL, FLOWS_LOGS
from tierflow.schemas.wire import HEADER, MAX_RECORDS, BatchHeader, decode_batch, encode_batch, interval_end_of

HEADER_EXAMPLE = BatchHeader("node-1", "lab", bytes(range(16)), 7, 100, 200, 200, 1, 2, 3)


def records(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, count * RECORD.itemsize, np.uint8).view(RECORD)


def refused(message: bytes) -> str:
    with pytest.raises(RejectedRecord) as caught:
        decode_batch(message)
    return caught.value.reason


def changed(message: bytes, at: int, new: bytes) -> bytes:
    return message[:at] + new + message[at + len(new) :]


def test_the_c_struct_has_the_sizes_and_offsets_of_the_dtype(tmp_path: Path) -> None:
    folder = Path(tierflow.collector.__file__).parent / "bpf"
    fields = "".join(f'  printf("{name} %zu\\n", offsetof(struct tierflow_record, {name}));\n' for name in RECORD.names)
    (tmp_path / "layout.c").write_text(
        '#include <stddef.h>\n#include <stdio.h>\n#include <linux/types.h>\n#include "record.h"\n'
        f'int main(void) {{\n  printf("size %zu\\n", sizeof(struct tierflow_record));\n{fields}  return 0;\n}}\n'
    )
    subprocess.run(["cc", f"-I{folder}", "layout.c", "-o", "layout"], cwd=tmp_path, check=True)
    printed = subprocess.run([str(tmp_path / "layout")], capture_output=True, text=True, check=True).stdout.split("\n")
    found = dict(line.split() for line in printed if line)
    expected = {"size": RECORD.itemsize} | {name: RECORD.fields[name][1] for name in RECORD.names}
    assert {name: int(value) for name, value in found.items()} == expected


@given(
    node=st.text(min_size=1, max_size=20).filter(lambda text: _encodes(text)),
    cluster=st.text(max_size=20).filter(lambda text: _encodes(text)),
    count=st.integers(0, 50),
    sequence=st.integers(0, 2**63 - 1),
)
def test_what_is_encoded_is_decoded(node: str, cluster: str, count: int, sequence: int) -> None:
    header = replace(HEADER_EXAMPLE, node=node, cluster=cluster, sequence=sequence)
    batch = decode_batch(encode_batch(header, records(count)))
    assert batch.header == header
    assert batch.records.tobytes() == records(count).tobytes()


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def test_decoded_records_are_a_view_of_the_message() -> None:
    message = encode_batch(HEADER_EXAMPLE, records(3))
    assert np.shares_memory(decode_batch(message).records, np.frombuffer(message, np.uint8))


@given(cut=st.integers(0, 1000))
def test_a_truncated_batch_is_refused(cut: int) -> None:
    message = encode_batch(HEADER_EXAMPLE, records(3))
    cut = cut % len(message)
    assert refused(message[:cut]) in {RejectReason.TRUNCATED, RejectReason.RECORD_COUNT}


@given(st.binary(max_size=300))
def test_noise_is_refused_and_never_crashes(noise: bytes) -> None:
    assert refused(noise)
    assert refused(encode_batch(HEADER_EXAMPLE, records(0))[:4] + noise)


@pytest.mark.parametrize(
    ("at", "new", "reason"),
    [
        (0, b"NOPE", RejectReason.BAD_MAGIC),
        (4, b"\x09\x00", RejectReason.UNKNOWN_VERSION),
        (6, b"\x01\x00", RejectReason.BAD_HEADER),
        (8, b"\x60\x00", RejectReason.RECORD_SIZE),
        (10, b"\x09", RejectReason.BAD_HEADER),
        (12, (MAX_RECORDS + 1).to_bytes(4, "little"), RejectReason.OVERSIZED),
        (12, (2).to_bytes(4, "little"), RejectReason.RECORD_COUNT),
        (40, (500).to_bytes(8, "little"), RejectReason.BAD_TIME),
        (HEADER.size, b"\xff", RejectReason.BAD_HEADER),
    ],
)
def test_a_wrong_header_field_is_refused_with_its_reason(at: int, new: bytes, reason: str) -> None:
    assert refused(changed(encode_batch(HEADER_EXAMPLE, records(3)), at, new)) == reason


def test_the_interval_end_is_told_without_decoding() -> None:
    header = BatchHeader("n", "", bytes(16), 1, 1_000, 2_000, 1_500)
    assert interval_end_of(encode_batch(header, np.zeros(0, RECORD))) == 2_000
    assert interval_end_of(b"TFLO") == interval_end_of(bytes(200)) == interval_end_of(b"") == 0


@pytest.mark.parametrize("name", ["sequence", "lost_records", "lost_packets", "lost_bytes"])
def test_a_number_that_no_store_holds_is_refused(name: str) -> None:
    fits = BatchHeader("n", "", bytes(16), 1, 1, 2, 1)
    largest = encode_batch(replace(fits, **{name: 2**63 - 1}), np.zeros(0, RECORD))
    assert getattr(decode_batch(largest).header, name) == 2**63 - 1
    with pytest.raises(RejectedRecord) as refused:
        decode_batch(encode_batch(replace(fits, **{name: 2**63}), np.zeros(0, RECORD)))
    assert refused.value.reason == RejectReason.BAD_VALUE


def test_bytes_after_the_last_record_are_refused() -> None:
    assert refused(encode_batch(HEADER_EXAMPLE, records(3)) + b"x") == RejectReason.RECORD_COUNT


@pytest.mark.parametrize(
    "header",
    [replace(HEADER_EXAMPLE, node=""), replace(HEADER_EXAMPLE, node="n" * 254), replace(HEADER_EXAMPLE, boot_id=b"")],
)
def test_an_unfit_header_is_not_encoded(header: BatchHeader) -> None:
    with pytest.raises(ValueError, match="node name"):
        encode_batch(header, records(0))


def test_too_many_records_or_another_dtype_are_not_encoded() -> None:
    with pytest.raises(ValueError, match="at most"):
        encode_batch(HEADER_EXAMPLE, np.zeros(MAX_RECORDS + 1, RECORD))
    with pytest.raises(ValueError, match="dtype"):
        encode_batch(HEADER_EXAMPLE, np.zeros(1, np.dtype([("a", "u8")])))


@given(st.ip_addresses())
def test_an_address_survives_its_halves(address: object) -> None:
    hi, lo = address_halves(str(address))
    expected = address.ipv4_mapped or address if getattr(address, "version", 4) == 6 else address  # type: ignore[attr-defined]
    assert address_text(hi, lo) == str(expected)
    columns = address_columns([str(address)])
    assert (columns[0][0], columns[1][0]) == (hi, lo)


@given(st.lists(st.ip_addresses(v=6), min_size=2, max_size=2))
def test_halves_order_as_the_addresses_do(pair: list[object]) -> None:
    assert (address_halves(str(pair[0])) < address_halves(str(pair[1]))) == (pair[0] < pair[1])  # type: ignore[operator]


def test_every_topic_name_ends_in_its_schema_version() -> None:
    assert all(topic.name.endswith(f".v{topic.version}") for topic in ALL)
    assert len({topic.name for topic in ALL}) == len(ALL)
    assert FLOWS_LOGS.with_prefix("prod.").name == "prod.flows.logs.v1"


def test_a_json_schema_nests_dotted_names_requires_all_and_refuses_unknown_fields() -> None:
    fields = [Field("a.b", FieldType.LONG, "x", nullable=True), Field("c", FieldType.KEYWORD, "y", values=("p", "q"))]
    schema = json_schema(FLOWS_LOGS, "Title", fields)
    assert schema["additionalProperties"] is False
    assert schema["required"] == ["a", "c"]
    assert schema["properties"]["a"]["properties"]["b"]["type"] == ["integer", "null"]
    assert schema["properties"]["c"]["enum"] == ["p", "q"]
