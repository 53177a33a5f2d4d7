"""Load one model as a worker does; measure the time and the process's peak memory.

python -m benchmarks.probes.loading HANDLER MODEL BODY.npy

Imports that every load needs, mxnet above all, happen before.  The first answer is measured
separately, since the first client waits for whatever a load leaves for later.
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
        before_mb = _peak_mb()
        start = time.perf_counter()
        service = loader.load("m", model, handler, None, 1)
        loaded = time.perf_counter()
        loaded_peak_mb = _peak_mb()
        if b"[[" not in service.predict([request]):
            raise ValueError(f"{handler} loaded {model} but did not answer its first request")
        return {
            "load_ms": 1e3 * (loaded - start),
            "answered_ms": 1e3 * (time.perf_counter() - start),
            "before_mb": before_mb,
            "loaded_peak_mb": loaded_peak_mb,
            "peak_mb": _peak_mb(),
        }

    answer(measure)


def _import_mxnet(handler: str) -> None:
    """Import mxnet as a worker with this handler does, so that the load does not count it."""
    importing = contextlib.ExitStack()
    if handler.startswith("mms_handler."):
        from mms_handler import mxnet_import

        importing.enter_context(mxnet_import.without("sklearn"))
        importing.enter_context(mxnet_import.fast_import())
    with importing:
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
