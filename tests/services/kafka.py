"""Apache Kafka 4.1, one node in KRaft mode, from Maven Central."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conftest import absent
from tests.guard import spawn
from tierflow.cli.broker import free_port, wait_for_broker

if TYPE_CHECKING:
    from collections.abc import Iterator

KAFKA = "4.1.0"
SLF4J = "1.7.36"
POM = f"""<project xmlns="http://maven.apache.org/POM/4.0.0">
<modelVersion>4.0.0</modelVersion><groupId>tierflow</groupId><artifactId>kafka</artifactId><version>1</version>
<dependencies>
<dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{KAFKA}</version></dependency>
<dependency><groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>{SLF4J}</version></dependency>
</dependencies></project>
"""


def folder() -> Path:
    """Where the jars are kept."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "tierflow" / f"kafka-{KAFKA}"


def install() -> str:
    """Fetch the broker's jars, unless they are there."""
    target = folder()
    if not (target / "complete").exists():
        for program in ("mvn", "java"):
            if shutil.which(program) is None:
                raise FileNotFoundError(f"{program} is not installed")
        target.mkdir(parents=True, exist_ok=True)
        (target / "pom.xml").write_text(POM)
        subprocess.run(
            ["mvn", "-q", "-B", "dependency:copy-dependencies", f"-DoutputDirectory={target / 'jars'}"],
            cwd=target, check=True, capture_output=True,
        )  # fmt: skip
        (target / "complete").touch()
    return f"Kafka {KAFKA}, {len(list((target / 'jars').glob('*.jar')))} jars"


@dataclass(slots=True)
class Kafka:
    """One broker on loopback; its data outlives :meth:`kill` and :meth:`start`."""

    data: Path
    port: int
    controller_port: int
    group_delay_ms: int = 0
    process: subprocess.Popen[bytes] | None = None

    @property
    def bootstrap(self) -> str:
        """``host:port`` for clients."""
        return f"127.0.0.1:{self.port}"

    def format(self) -> None:
        """Make the empty store."""
        self.data.mkdir(parents=True, exist_ok=True)
        (self.data / "server.properties").write_text(
            f"""process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{self.controller_port}
listeners=PLAINTEXT://127.0.0.1:{self.port},CONTROLLER://127.0.0.1:{self.controller_port}
advertised.listeners=PLAINTEXT://127.0.0.1:{self.port}
controller.listener.names=CONTROLLER
log.dirs={self.data / "log"}
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms={self.group_delay_ms}
offsets.topic.num.partitions=4
"""
        )
        self._java("kafka.tools.StorageTool", "format", "-t", uuid.uuid4().hex[:22], "-c", self._properties).wait(60)

    def start(self, timeout_s: float = 90) -> None:
        """Start the broker and wait until it answers."""
        self.process = self._java("kafka.Kafka", self._properties)
        asyncio.run(wait_for_broker(self.bootstrap, timeout_s))

    def kill(self) -> None:
        """Kill the broker as a power cut would."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Stop the broker."""
        self._end(signal.SIGTERM)

    @property
    def pid(self) -> int:
        """Process id; 0 when it doesn't run."""
        return 0 if self.process is None else self.process.pid

    def cpu_seconds(self) -> float:
        """Processor time that the broker has taken."""
        if self.process is None:
            return 0.0
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def limit_producer(self, client_id: str, bytes_per_s: int | None) -> None:
        """Have the broker slow a client down by its own quota; None ends that."""
        quota = ("--delete-config", "producer_byte_rate")
        if bytes_per_s is not None:
            quota = ("--add-config", f"producer_byte_rate={bytes_per_s}")
        command = self._java(
            "kafka.admin.ConfigCommand", "--bootstrap-server", self.bootstrap, "--alter",
            "--entity-type", "clients", "--entity-name", client_id, *quota,
        )  # fmt: skip
        assert command.wait(60) == 0, "the broker takes no quota; see kafka.log"

    @property
    def _properties(self) -> str:
        return str(self.data / "server.properties")

    def _end(self, number: signal.Signals) -> None:
        if self.process is not None:
            self.process.send_signal(number)
            try:
                self.process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(timeout=20)
            self.process = None

    def _java(self, *arguments: str) -> subprocess.Popen[bytes]:
        with (self.data / "kafka.log").open("ab") as output:
            return spawn(java(*arguments), stdout=output, stderr=output, start_new_session=True)


def java(*arguments: str) -> list[str]:
    """The command that runs one of Kafka's main classes with the jars of the cache."""
    options = ("-Xms256m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData")
    return ["java", *options, "-cp", f"{folder() / 'jars'}/*", *arguments]


def make(data: Path, *, group_delay_ms: int = 0) -> Kafka:
    """A formatted broker that is not started yet; an empty group waits so long for more members before it begins."""
    broker = Kafka(data, free_port(), free_port(), group_delay_ms)
    broker.format()
    return broker


def missing() -> str:
    """What isn't there that a broker needs, and how it is had; ``""`` when all is."""
    there = (folder() / "complete").exists() and shutil.which("java") is not None
    return "" if there else "Kafka is absent: `make services` fetches it"


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    """A real Kafka that lives as long as the test session."""
    if reason := missing():
        absent(reason)
    broker = make(tmp_path_factory.mktemp("kafka"))
    broker.start()
    yield broker
    broker.stop()
