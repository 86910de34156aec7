"""Every stage's log is JSON lines with fields, or text where that is asked for; no secret is in it."""

from __future__ import annotations

import importlib
import json
import logging
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tierflow.cli.broker import free_port
from tierflow.cli.logs import JsonLines, Text

if TYPE_CHECKING:
    from pathlib import Path

STAGES = {
    "collect": ("collect", "command"),
    "inventory": ("inventory", "command"),
    "stream": ("stream", "command"),
    "sink duckdb": ("sink", "duckdb_command"),
    "sink elasticsearch": ("sink_elasticsearch", "command"),
    "console": ("console", "command"),
}
PASSWORD = "correct-horse-battery"


def made(message: str, *arguments: object, **more: Any) -> logging.LogRecord:
    return logging.getLogger("tierflow.test").makeRecord(
        "tierflow.test", logging.WARNING, __file__, 1, message, arguments, more.pop("exc_info", None), extra=more
    )


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "tierflow.cli.main", *arguments]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)


def test_a_json_line_has_time_level_logger_message_and_the_fields() -> None:
    line = json.loads(JsonLines().format(made("took %d", 3, partition=2, path=PurePosix())))
    assert line.pop("time").endswith("+00:00")
    assert line == {
        "level": "warning", "logger": "tierflow.test", "message": "took 3", "partition": 2, "path": "a/path",
    }  # fmt: skip


class PurePosix:
    """Something that JSON doesn't know."""

    def __str__(self) -> str:
        return "a/path"


def test_an_exception_is_one_field_of_one_line() -> None:
    error = ValueError("broken\nin two")
    line = JsonLines().format(made("failed", exc_info=(ValueError, error, None)))
    assert "\n" not in line
    assert "ValueError: broken" in json.loads(line)["error"]


def test_text_shows_the_fields_behind_the_message() -> None:
    assert (
        Text()
        .format(made("partition taken up", partition=2))
        .endswith("WARNING tierflow.test: partition taken up partition=2")
    )


@pytest.mark.parametrize("name", STAGES)
def test_every_stage_has_the_one_setting(name: str) -> None:
    module, command = STAGES[name]
    found = getattr(importlib.import_module(f"tierflow.cli.{module}"), command)
    (option,) = [each for each in found.params if each.name == "log_format"]
    assert (option.default, option.envvar, list(option.type.choices)) == (
        "json",
        "TIERFLOW_LOG_FORMAT",
        ["json", "text"],
    )


@pytest.mark.parametrize("form", ["json", "text"])
def test_a_stage_without_its_broker_logs_in_form_and_says_no_secret(form: str, tmp_path: Path) -> None:
    for name, content in (("user", "somebody"), ("password", PASSWORD)):
        (tmp_path / name).write_text(content)
    done = run(
        "stream", "--kafka", f"127.0.0.1:{free_port()}", "--log-format", form, "--data-dir", str(tmp_path),
        "--kafka-sasl-mechanism", "PLAIN", "--kafka-username-file", str(tmp_path / "user"),
        "--kafka-password-file", str(tmp_path / "password"), "--metrics-port", "0",
    )  # fmt: skip
    assert done.returncode == 3
    assert PASSWORD not in done.stdout + done.stderr
    logged, last = done.stderr.splitlines()
    assert last.startswith("tierflow: --kafka")
    if form == "json":
        line = json.loads(logged)
        assert (line["logger"], line["message"], line["host"]) == ("tierflow.stage", "metrics", "127.0.0.1")
    else:
        assert " tierflow.stage: metrics host=127.0.0.1 port=" in logged


def test_what_nobody_catches_is_a_line_too() -> None:
    program = "from tierflow.cli.logs import start_logging; start_logging('json'); 1 / 0"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    (line,) = done.stderr.splitlines()
    assert done.returncode == 1
    assert json.loads(line)["message"] == "ends on ZeroDivisionError"
    assert "ZeroDivisionError" in json.loads(line)["error"]
