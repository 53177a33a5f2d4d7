"""Decode a body of one image to an array with one system's decoder.

python -m benchmarks.probes.decoding SYSTEM KIND IMAGE.npy      SYSTEM: ours, peer or numpy
"""

from __future__ import annotations

import io
import sys
from typing import Any, Callable

import numpy as np

from benchmarks.probes.answering import answer, median_us

TYPES = {"json": "application/json", "csv": "text/csv", "npy": "application/x-npy"}


def _decoder(system: str, kind: str) -> Callable[[bytes], Any]:
    if system == "numpy":
        return lambda body: np.load(io.BytesIO(body))
    if system == "peer":
        return _peer(kind)
    from mms_handler import codecs

    return lambda body: codecs.decode(body, TYPES[kind])


def _peer(kind: str) -> Callable[[bytes], Any]:
    from sagemaker_inference import decoder

    if kind == "npy":
        return lambda body: decoder.decode(body, TYPES[kind])
    # The peer's Transformer makes text of these first (sagemaker_inference 1.6.1, transformer.py).
    return lambda body: decoder.decode(body.decode("utf-8"), TYPES[kind])


def _body(kind: str, image: Any) -> bytes:
    if kind == "npy":
        file = io.BytesIO()
        np.save(file, image)
        return file.getvalue()
    if kind == "json":
        return str(image.tolist()).encode()
    return ",".join(map(str, image.ravel().tolist())).encode()


def _main(system: str, kind: str, path: str) -> None:
    image = np.load(path)
    body, decode = _body(kind, image), _decoder(system, kind)
    array = np.asarray(decode(body), np.float32).ravel()
    if not np.array_equal(array, image.ravel()):
        raise ValueError(f"the decoder of {system} reads other numbers from {kind} than were sent")
    answer(lambda seconds: {"us": median_us(lambda: decode(body), seconds)})


if __name__ == "__main__":
    _main(*sys.argv[1:])
