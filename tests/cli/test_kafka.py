"""TLS and SASL settings become client arguments; what is wrong is said by its flag."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tierflow.cli.kafka import KafkaSecurity
from tierflow.schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path


def test_nothing_given_is_plain_text() -> None:
    assert KafkaSecurity().client_arguments() == {"security_protocol": "PLAINTEXT"}


def test_user_and_password_come_from_files_without_their_line_ends(tmp_path: Path) -> None:
    (tmp_path / "user").write_text("flows\n")
    (tmp_path / "password").write_text("secret\n")
    security = KafkaSecurity(
        tls=True, mechanism="SCRAM-SHA-512", username_file=tmp_path / "user", password_file=tmp_path / "password"
    )
    arguments = security.client_arguments()
    assert arguments.pop("ssl_context").check_hostname is True
    assert arguments == {
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": "flows",
        "sasl_plain_password": "secret",
    }


def test_what_is_missing_or_wrong_is_named(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.touch()
    wrong = {
        "--kafka-ca-file .*: No such file": KafkaSecurity(tls=True, ca_file=tmp_path / "no"),
        "--kafka-ca-file .*: no PEM certificate": KafkaSecurity(tls=True, ca_file=empty),
        "--kafka-ca-file: only with --kafka-tls": KafkaSecurity(ca_file=empty),
        "--kafka-username-file: needed": KafkaSecurity(mechanism="PLAIN"),
        "--kafka-username-file .*: the file is empty": KafkaSecurity(mechanism="PLAIN", username_file=empty),
        "only with --kafka-sasl-mechanism": KafkaSecurity(password_file=empty),
    }
    for said, security in wrong.items():
        with pytest.raises(ConfigurationError, match=said):
            security.client_arguments()
