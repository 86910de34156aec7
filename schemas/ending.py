"""How clients of a broker are let go at the end of a stage."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Coroutine

STOP_S: Final = 3.0


async def let_go(*ends: Coroutine[Any, Any, object] | asyncio.Task[Any]) -> None:
    """Wait for the ends of clients, a little: without a broker they raise, or last until their questions expire.

    Nothing is owed to a broker by then: what it hasn't acknowledged is read again.
    """
    done, _ = await asyncio.wait({asyncio.ensure_future(end) for end in ends}, timeout=STOP_S)
    await asyncio.gather(*done, return_exceptions=True)
