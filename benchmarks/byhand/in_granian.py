"""The MLP behind granian, by its own interface, RSGI.

granian --interface rsgi benchmarks.byhand.in_granian:app
"""

from __future__ import annotations

from typing import Any

from benchmarks.byhand.model import Mlp

mlp = Mlp()
TYPE = [("content-type", "application/json")]


async def app(scope: Any, protocol: Any) -> None:
    protocol.response_bytes(200, TYPE, mlp.answer(await protocol()))
