"""Load one model as a worker does: how long it took, and the most memory of the process.

python -m benchmarks.probes.loading HANDLER MODEL BODY.npy

What is imported anyway, mxnet above all, is imported before.  The first answer counts apart: what
a load leaves for later, the first client waits for.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any, Mapping

from mms.model_loader import ModelLoaderFactory

from benchmarks.probes.answering import answer


def _main(handler: str, model: str, body: str) -> None:
    os.chdir(model)
    os.environ["MMS_DECODE_INPUT_REQUEST"] = "false"
    _import_mxnet(handler)
    importlib.import_module(handler.partition(":")[0])
    loader, request = ModelLoaderFactory.get_model_loader(model), _request(Path(body).read_bytes())

    def measure(_: float) -> Mapping[str, float]:
        before = _peak_mb()
        start = time.perf_counter()
        service = loader.load("m", model, handler, None, 1)
        loaded = time.perf_counter()
        peak = _peak_mb()
        if b"[[" not in service.predict([request]):
            raise ValueError(f"{handler} did not answer")
        return {
            "load_ms": 1e3 * (loaded - start),
            "answered_ms": 1e3 * (time.perf_counter() - start),
            "before_mb": before,
            "loaded_peak_mb": peak,
            "peak_mb": _peak_mb(),
        }

    answer(measure)


def _import_mxnet(handler: str) -> None:
    """So that it is not counted; as a worker with this handler imports it."""
    swiftly: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
    if handler.startswith("mms_handler."):
        from mms_handler.worker import mxnet_import

        swiftly = mxnet_import.swiftly()
    with swiftly:
        importlib.import_module("mxnet")


def _request(body: bytes) -> dict[str, Any]:
    content_type = "application/x-npy"
    return {
        "requestId": b"a-request-id",
        "headers": [{"name": b"Content-Type", "value": content_type.encode()}],
        "parameters": [{"name": "body", "contentType": content_type, "value": bytearray(body)}],
    }


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    _main(*sys.argv[1:])
