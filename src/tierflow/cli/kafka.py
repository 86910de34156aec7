"""How to reach a Kafka that wants TLS or SASL: five settings that become arguments of aiokafka's clients."""

from __future__ import annotations

import functools
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click

from tierflow.cli.settings import setting
from tierflow.schemas.errors import ConfigurationError
from tierflow.schemas.secrets import secret_file

MECHANISMS: Final = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")


@dataclass(frozen=True, slots=True)
class KafkaSecurity:
    """TLS and SASL towards Kafka; secrets stay in files, so that they are in no argument and no environment.

    Attributes:
        tls: speak TLS.
        ca_file: authority that signed the brokers' certificates; None: the system's.
        mechanism: one of :data:`MECHANISMS`; None: no SASL.
        username_file: holds the user name.
        password_file: holds the password.
    """

    tls: bool = False
    ca_file: Path | None = None
    mechanism: str | None = None
    username_file: Path | None = None
    password_file: Path | None = None

    def client_arguments(self) -> dict[str, Any]:
        """Keyword arguments for every aiokafka client.

        Raises:
            ConfigurationError: a file is missing, unreadable or not what it should be, or settings don't fit together.
        """
        arguments: dict[str, Any] = {
            "security_protocol": ("SASL_" if self.mechanism else "") + ("SSL" if self.tls else "PLAINTEXT")
        }
        if self.ca_file is not None and not self.tls:
            raise ConfigurationError("--kafka-ca-file: only with --kafka-tls")
        if self.tls:
            arguments["ssl_context"] = self._context()
        if self.mechanism is None:
            if self.username_file is not None or self.password_file is not None:
                raise ConfigurationError(
                    "--kafka-username-file, --kafka-password-file: only with --kafka-sasl-mechanism"
                )
            return arguments
        return arguments | {
            "sasl_mechanism": self.mechanism,
            "sasl_plain_username": _secret("--kafka-username-file", self.username_file),
            "sasl_plain_password": _secret("--kafka-password-file", self.password_file),
        }

    def _context(self) -> ssl.SSLContext:
        try:
            return ssl.create_default_context(cafile=self.ca_file)
        except OSError as error:
            reason = "no PEM certificate in it" if isinstance(error, ssl.SSLError) else error.strerror
            raise ConfigurationError(f"--kafka-ca-file {self.ca_file}: {reason}") from error


def _secret(flag: str, path: Path | None) -> str:
    if path is None:
        raise ConfigurationError(f"{flag}: needed with --kafka-sasl-mechanism")
    return secret_file(flag, path)


def kafka_security(function: Any) -> Any:
    """The five settings; the command receives them as one argument ``kafka_security``."""

    @setting("--kafka-tls/--no-kafka-tls", default=False, help="Speak TLS to Kafka.")
    @setting(
        "--kafka-ca-file", type=click.Path(path_type=Path), default=None, help="Authority of Kafka's certificates."
    )
    @setting("--kafka-sasl-mechanism", type=click.Choice(MECHANISMS), default=None, help="SASL mechanism.")
    @setting(
        "--kafka-username-file", type=click.Path(path_type=Path), default=None, help="File with the SASL user name."
    )
    @setting(
        "--kafka-password-file", type=click.Path(path_type=Path), default=None, help="File with the SASL password."
    )
    @functools.wraps(function)
    def with_security(
        *arguments: Any,
        kafka_tls: bool,
        kafka_ca_file: Path | None,
        kafka_sasl_mechanism: str | None,
        kafka_username_file: Path | None,
        kafka_password_file: Path | None,
        **options: Any,
    ) -> Any:
        security = KafkaSecurity(
            kafka_tls, kafka_ca_file, kafka_sasl_mechanism, kafka_username_file, kafka_password_file
        )
        return function(*arguments, kafka_security=security, **options)

    return with_security
