"""A real Kafka on the cluster's node, outside of its pods, that lets nobody in without TLS and a SCRAM password."""

from __future__ import annotations

import base64
import secrets
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from tests.services import kafka
from tests.services.cluster_parts import NODE, NODE_ADDRESS

if TYPE_CHECKING:
    from pathlib import Path

    from tests.services.cluster import Cluster

BOOTSTRAP: Final = f"{NODE_ADDRESS}:9093"
MECHANISM: Final = "SCRAM-SHA-512"
USER: Final = "tierflow"
CLUSTER_ID: Final = base64.urlsafe_b64encode(b"tierflow-tests-1").decode().rstrip("=")
PROPERTIES: Final = """process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:9095
listeners=SASL_SSL://{bootstrap},INSIDE://127.0.0.1:9094,CONTROLLER://127.0.0.1:9095
advertised.listeners=SASL_SSL://{bootstrap},INSIDE://127.0.0.1:9094
listener.security.protocol.map=SASL_SSL:SASL_SSL,INSIDE:PLAINTEXT,CONTROLLER:PLAINTEXT
controller.listener.names=CONTROLLER
inter.broker.listener.name=INSIDE
sasl.enabled.mechanisms={mechanism}
listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
ssl.keystore.type=PEM
ssl.keystore.location={at}/server.pem
log.dirs={at}/log
auto.create.topics.enable=false
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
offsets.topic.num.partitions=4
"""


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a client needs: the authority's certificate in PEM, and the password of :data:`USER`."""

    authority: str
    password: str

    def secrets(self) -> list[dict[str, Any]]:
        """The chart's two Secrets, ``kafka-ca`` and ``kafka``."""
        content = {"kafka-ca": {"ca.crt": self.authority}, "kafka": {"username": USER, "password": self.password}}
        return [
            {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data}
            for name, data in content.items()
        ]


def start(cluster: Cluster) -> Credentials:
    """Format and start the broker; it ends with the cluster. Clients wait for it by themselves."""
    at = cluster.folder / "kafka"
    at.mkdir()
    credentials = Credentials(_certificates(at), secrets.token_hex(16))
    properties = at / "server.properties"
    properties.write_text(PROPERTIES.format(at=at, bootstrap=BOOTSTRAP, mechanism=MECHANISM))
    scram = f"{MECHANISM}=[name={USER},password={credentials.password}]"
    format_ = kafka.java(
        "kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c", str(properties), "--add-scram", scram
    )
    subprocess.run(format_, check=True, capture_output=True)
    # It looks every client's name up, and nobody answers such questions here: all names that it knows are in this file.
    hosts = at / "hosts"
    hosts.write_text(f"127.0.0.1 localhost\n{NODE_ADDRESS} {NODE}\n")
    cluster.run("kafka", *kafka.java(f"-Djdk.net.hosts.file={hosts}", "kafka.Kafka", str(properties)))
    return credentials


def _certificates(at: Path) -> str:
    """Make an authority and, by it, the server's key and certificate; the authority's certificate."""

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=at, check=True, capture_output=True)

    new_key = ("-newkey", "rsa:2048", "-nodes")
    openssl(
        "req", "-x509", *new_key, "-keyout", "ca.key", "-out", "ca.crt", "-days", "2", "-subj", "/CN=tierflow tests"
    )
    openssl(
        "req", "-x509", *new_key, "-keyout", "server.key", "-out", "server.crt", "-days", "2", "-subj", "/CN=kafka",
        "-CA", "ca.crt", "-CAkey", "ca.key", "-addext", f"subjectAltName=IP:{NODE_ADDRESS}",
        "-addext", "basicConstraints=critical,CA:FALSE",
    )  # fmt: skip
    (at / "server.pem").write_text((at / "server.key").read_text() + (at / "server.crt").read_text())
    return (at / "ca.crt").read_text()
