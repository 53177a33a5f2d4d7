"""The entry point for MMS, ``mms_handler.service:handle``.

Archives name it in their manifests, so it stays where it is.  MMS's listener imports it, too, only
to fork: what workers need is imported by the first of them, with numpy, and is not in its memory.
"""

from __future__ import annotations

import gc
from functools import lru_cache
from typing import Any

from mms_handler import numpy_import
from mms_handler.worker.mms import fork_server, lifeline


def handle(batch: list[dict[str, Any]] | None, context: Any) -> list[bytes] | None:
    """MMS calls it with None to load the model, then with each batch of requests."""
    if batch is None:
        numpy_import.postpone()
    if batch is None and lifeline.in_listener():
        fork_server.install()
        return None
    replies: list[bytes] | None = _service()(batch, context)
    return replies


@lru_cache(maxsize=None)
def _service() -> Any:
    from mms_handler.worker.loading import load
    from mms_handler.worker.service import Service

    gc.freeze()  # modules stay: looking through them at the end of a load takes 10 ms
    return Service(load)
