"""Kinds of value that settings take beyond click's own: checked as they are read, refused with what is accepted."""

from __future__ import annotations

import math
import re
from typing import Any, Final

import click

from tierflow.schemas.record import PROTOCOL_NUMBERS, protocol_name


class Form(click.ParamType):
    """A text that matches a pattern as a whole."""

    name = "text"

    def __init__(self, pattern: str, accepted: str) -> None:
        """``accepted`` says in words what ``pattern`` does."""
        self._pattern = re.compile(pattern)
        self._accepted = accepted

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The text itself."""
        if not isinstance(value, str) or not self._pattern.fullmatch(value):
            self.fail(f"{shortened(value)}: accepted is {self._accepted}.", param, ctx)
        return value


class Server(click.ParamType):
    """``HOST:PORT``; an IPv6 address in brackets."""

    name = "server"
    _FORM: Final = re.compile(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.%]+\]):([0-9]{1,5})")
    _accepted = "HOST:PORT"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The text itself, without spaces around it."""
        text = str(value).strip()
        found = self._FORM.fullmatch(text)
        if found is None or not 0 < int(found[2]) < 65_536:
            self.fail(f"{shortened(value)}: accepted is {self._accepted}; a port is 1 to 65535.", param, ctx)
        return text


class Servers(Server):
    """``HOST:PORT``, or several of them with commas between."""

    _accepted = "HOST:PORT, or several with commas between"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The text itself, without spaces."""
        # Zero-argument super() isn't to be had inside a generator.
        return ",".join(super(Servers, self).convert(each, param, ctx) for each in str(value).split(","))


class Finite(click.FloatRange):
    """A number in a range; ``nan``, which is in every range, and ``inf`` are none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number."""
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


class Protocol(click.ParamType):
    """An IP protocol by name or number."""

    name = "protocol"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Its name in flow logs."""
        text = str(value).lower()
        number = PROTOCOL_NUMBERS.get({"icmpv6": "icmp6"}.get(text, text), -1)
        if text.isascii() and text.isdecimal():
            number = int(text)
        if not 0 <= number < 256:
            accepted = ", ".join(PROTOCOL_NUMBERS)
            self.fail(f"{shortened(value)}: accepted is one of {accepted}, or a number up to 255.", param, ctx)
        return protocol_name(number)


def shortened(value: object) -> str:
    """The value as an error shows it: quoted, and of an endless one the beginning."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


_NAME: Final = r"[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?"
_NAME_IN_WORDS: Final = "1 to 253 letters, digits, '.', '-' and '_', a letter or digit at either end"

NODE: Final = Form(_NAME, _NAME_IN_WORDS)
"""A Kubernetes node name; it is part of file names."""
CLUSTER: Final = Form(
    r"([A-Za-z0-9]([A-Za-z0-9._:/@-]{0,251}[A-Za-z0-9])?)?",
    "nothing, or 1 to 253 letters, digits, '.', '-', '_', ':', '/' and '@', a letter or digit at either end",
)
"""A name, an ARN of EKS, a context of a kubeconfig; it is part of index names, where other characters become '-'."""
TOPIC_PREFIX: Final = Form(r"[A-Za-z0-9._-]{0,200}", "up to 200 letters, digits, '.', '-' and '_'")
"""What Kafka allows in a topic's name, with room for the rest of it."""
GROUP: Final = Form(r"[A-Za-z0-9._-]{1,249}", "1 to 249 letters, digits, '.', '-' and '_'")
ADDRESS: Final = Form(r"[A-Za-z0-9._:%-]+", "an address or a host name; 0.0.0.0 is every address")
"""To listen on. Empty would be every address, which should be said."""
WINDOW_S: Final = click.IntRange(1, 86_400)
LATENESS_S: Final = click.IntRange(0, 3_600)
