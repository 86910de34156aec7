"""How long a sink waits before it tries a store again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@dataclass(frozen=True, slots=True)
class Retry:
    """The pause doubles from ``first_s`` to ``most_s``, times a random half to whole."""

    first_s: float = 0.2
    most_s: float = 30.0

    def pauses(self, random: Callable[[], float]) -> Iterator[float]:
        """The pauses, without end; ``random`` gives 0 to 1."""
        pause = self.first_s
        while True:
            yield pause * (0.5 + random() / 2)
            pause = min(self.most_s, pause * 2)
