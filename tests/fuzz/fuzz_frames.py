"""Target: frames both ways.  MMS's own reader and writer stand around our handler.

The requests have any names, headers, parts and bodies; the script answers as its body tells it to.
"""

from __future__ import annotations

import functools
import io
import json
import logging
import os
import struct
import sys
import tempfile
from pathlib import Path
from typing import Any

from fuzz_checks import bounded, no_leak
from fuzz_input import Choices

#: Answers as the request's body says: [kind, text, header].  It never looks at the request's form.
SCRIPT = """
import json

def model_fn(model_dir):
    return 1

def transform_fn(model, data, content_type, accept, context):
    kind, text, name = json.loads(data)
    if kind == 0:
        raise KeyError(text)
    if kind == 1:
        raise SystemExit(text)
    if kind == 2:
        return text, name
    if kind == 3:
        context.set_response_content_type(0, text)
    if kind == 4:
        context.set_response_status(len(text) * 40, text, 0)
    if kind == 5:
        context.get_response_headers(0)[name] = text
    if kind == 6:
        return {"a": text, name: [1, 2, float("nan")]}
    if kind == 7:
        return json.loads(text)
    if kind == 8:
        import numpy
        return numpy.ones((2, 3), "float32")
    if kind == 9:
        return context.get_all_request_header(0).get(name, "none")
    return b"fine"
"""

END = struct.pack("!i", -1)
NEIGHBOUR = b'[10, "", ""]'


class _Wire(io.BytesIO):
    """The part of a socket that MMS's reader uses."""

    recv = io.BytesIO.read


def _field(value: bytes) -> bytes:
    return struct.pack("!i", len(value)) + value


@functools.lru_cache(maxsize=None)
def _worker() -> Any:
    """The script, loaded by MMS's own loader."""
    from mms.model_loader import ModelLoaderFactory

    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    (folder / "code").mkdir()
    (folder / "code" / "inference.py").write_text(SCRIPT)
    os.chdir(folder)
    logging.disable(logging.CRITICAL)
    loader = ModelLoaderFactory.get_model_loader(str(folder))
    service = loader.load("m", str(folder), "mms_handler.service:handle", None, 8)
    import atexit
    import shutil

    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    assert "mxnet" in sys.modules
    return service


def frames(data: bytes) -> None:
    """Each request of a batch gets one whole answer, and a good one beside it gets its own."""
    from mms.protocol.otf_message_handler import retrieve_msg

    service = _worker()
    choices = Choices(data)
    requests = [_request(choices) for _ in range(1 + choices.number(3))]
    place = choices.number(len(requests) + 1)
    good = _frame(b"good", {b"Content-Type": b"application/json"}, {b"body": NEIGHBOUR}, b"")
    requests.insert(place, good)
    with bounded():
        _, batch = retrieve_msg(_Wire(b"I" + b"".join(requests) + END))
        answers = _answers(bytes(service.predict(batch)), len(requests))
    for index, (request_id, status, content_type, body) in enumerate(answers):
        assert request_id == (b"good" if index == place else b"r?")
        assert 200 <= status <= 599
        assert status < 400 or content_type
        no_leak(body.decode("latin-1"))
    assert answers[place][1:] == (200, "application/json", b"fine"), answers[place]


def _request(choices: Choices) -> bytes:
    headers, parts = {}, {}  # Java writes headers and names as UTF-8, whatever bytes came
    for _ in range(choices.number(4)):
        name = choices.pick(
            [b"Content-Type", b"Accept", b"accept", b"Content-Encoding", choices.text(20).encode()]
        )
        value = choices.pick(
            [b"application/json", b"text/csv", b"text/plain", b"gzip", choices.text(60).encode()]
        )
        headers[name] = value
    order = [choices.number(12), choices.text(60), choices.text(20)]
    body = choices.pick([json.dumps(order).encode(), choices.take()])
    for _ in range(choices.number(3)):
        parts[choices.text(10).encode()] = choices.take()
    if choices.number(8) < 7:
        parts[b"body"] = body
    kind = choices.pick([b"", b"application/json", b"text/csv", choices.text(10).encode()])
    return _frame(b"r?", headers, parts, kind)


def _frame(request_id: bytes, headers: Any, parts: Any, kind: bytes) -> bytes:
    lines = [_field(name) + _field(value) for name, value in headers.items()]
    fields = [_field(name) + _field(kind) + _field(value) for name, value in parts.items()]
    return b"".join([_field(request_id), *lines, END, *fields, END])


def _answers(frame: bytes, count: int) -> list[tuple[bytes, int, str, bytes]]:
    """The answers in a frame, read as Java reads them; all lengths must be right."""
    stream = io.BytesIO(frame)

    def number() -> int:
        return int(struct.unpack("!i", stream.read(4))[0])

    def raw() -> bytes:
        length = number()
        assert 0 <= length <= len(frame), f"a length of {length}"
        piece = stream.read(length)
        assert len(piece) == length
        return piece

    assert (number(), raw()) == (200, b"Prediction success")
    answers = []
    for _ in range(count):
        request_id, head = raw(), raw().decode("ascii")
        assert 1 <= stream.tell() % 16 <= 12
        status, phrase = number(), raw().decode("ascii")
        assert number() == 0
        assert "\n" not in phrase
        content_type, *lines = head.lstrip(" ").split("\r\n")
        assert all(": " in line for line in lines), lines
        assert not any(letter in head.replace("\r\n", "") for letter in "\r\n\0")
        answers.append((request_id, status, content_type, raw()))
    assert number() == -1
    assert stream.read() == b""
    return answers


TARGETS = {
    "frames": (
        frames,
        lambda: [
            bytes([0, 0, kind, 4]) + b"text" + bytes([4]) + b"x-ab" + bytes(6) for kind in range(12)
        ],
    )
}
