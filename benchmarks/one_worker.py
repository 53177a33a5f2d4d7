"""One worker without a front end: this process stands for Java, and the worker cannot tell.

this process ─▶ MMS's socket: load, and the requests of handlers that are not ours
             ◀▶ the plane, on which our worker takes requests in batches

A batch goes out in one piece, the next one when its replies are there.  What counts is the
processor time of the worker alone, with what its kernel does for it.  The protocols:
mms/protocol/otf_message_handler.py of MMS 1.1.11, and docs/architecture.md.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import socket
import struct
import threading
import time
from pathlib import Path
from typing import Callable, Iterator, Mapping, NamedTuple, Sequence

from benchmarks.processes import NotServing, family, running, wait_for
from benchmarks.reading import TYPES

#: What a client's library sends.
_HEADERS = {"Host": "127.0.0.1:8080", "Accept": "*/*", "User-Agent": "client"}

_MMS_WORKER = "lib/*/site-packages/mms/model_service_worker.py"


class Handler(NamedTuple):
    """What a worker runs: a name for the tables, its Python, MMS's handler and its environment."""

    name: str
    python: Path
    handler: str
    env: Mapping[str, str]
    joins: bool = False  # whether it takes requests from the plane


class Worker(NamedTuple):
    """A worker that has loaded its model."""

    pid: int  # of the listener, whose descendant the worker is
    connection: socket.socket
    answer: Callable[[bytes], list[tuple[int, bytes]]]  # a batch's replies: status and body
    frame: Callable[[Sequence[bytes], str], bytes]  # a batch of bodies of one content type

    def cpu_us(self, batch: bytes, seconds: float) -> float:
        """Return the microseconds of processor time that one request of a batch takes.

        Raises:
            RuntimeError: a request was not answered with status 200.
        """
        deadline, requests, start_ns = time.monotonic() + seconds, 0, self._cpu_ns()
        while time.monotonic() < deadline:
            replies = self.answer(batch)
            if any(status != 200 for status, _ in replies):
                raise RuntimeError(f"the worker answered {replies[0]!r}")
            requests += len(replies)
        return (self._cpu_ns() - start_ns) / 1e3 / requests

    def _cpu_ns(self) -> int:
        """Return the processor time of the listener and all that descends from it."""
        tasks = (f"/proc/{process.pid}/task" for process in family(self.pid))
        paths = (path for folder in tasks for path in Path(folder).glob("*/schedstat"))
        return sum(int(path.read_text().split()[0]) for path in paths)


@contextlib.contextmanager
def loaded(handler: Handler, model: Path, work: Path, batch: int) -> Iterator[Worker]:
    """Run a worker of the ``model`` folder for the length of a ``with`` block.

    Raises:
        NotServing: the worker did not load the model, or has ended.
    """
    folder = work / f"{time.time_ns()}"
    script = next(handler.python.parents[1].glob(_MMS_WORKER))
    path = folder / ".mms.sock.9000"
    command = [
        *(handler.python, script, "--sock-type", "unix", "--sock-name", path),
        *("--handler", handler.handler, "--model-path", model, "--model-name", "m"),
        *("--preload-model", "false", "--tmp-dir", folder),
    ]
    env = {
        "OMP_NUM_THREADS": "1",
        "MMS_DECODE_INPUT_REQUEST": "false",
        "PYTHONPATH": str(model),
        **handler.env,
    }
    folder.mkdir(parents=True)
    with contextlib.ExitStack() as stack:
        if handler.joins:
            plane = stack.enter_context(socket.socket(socket.AF_UNIX))
            plane.bind(str(folder / "plane"))
            plane.listen()
            plane.settimeout(60)
        process = stack.enter_context(running(command, folder, env))
        mms = stack.enter_context(socket.socket(socket.AF_UNIX))
        wait_for(lambda: mms.connect_ex(str(path)) == 0, process, folder)
        reader = stack.enter_context(mms.makefile("rb"))
        mms.sendall(_load(handler.handler, model, batch))
        if not reader.peek(1):
            raise NotServing((folder / "log").read_text(errors="replace")[-2_000:])
        status, message = _integer(reader), _read(reader, _integer(reader))
        if status != 200 or _integer(reader) != -1:
            raise NotServing(f"{handler.name} did not load {model}: {message!r}")
        for end in ("stdout", "stderr"):
            _drain(folder / f"9000-{end}")
        if not handler.joins:
            yield Worker(process.pid, mms, lambda sent: _mms_answer(mms, reader, sent), _mms_frame)
            return
        connection = stack.enter_context(plane.accept()[0])
        replies = stack.enter_context(connection.makefile("rb"))
        _hello(replies)
        yield Worker(
            process.pid, connection, lambda sent: _answer(connection, replies, sent), _frame
        )


def _drain(pipe: Path) -> None:
    """Read what a worker prints, until it ends."""

    def drain() -> None:
        with open(pipe, "rb") as source, open(os.devnull, "wb") as sink:
            shutil.copyfileobj(source, sink)

    threading.Thread(target=drain, daemon=True).start()


# --- the plane ---


def _hello(reader: io.BufferedReader) -> None:
    (length,) = struct.unpack("<I", _read(reader, 4))
    version, _, _, _ = struct.unpack("<HHII", _read(reader, length))
    if version != 4:
        raise RuntimeError(f"the worker speaks version {version} of the plane's protocol")


def _frame(bodies: Sequence[bytes], content_type: str) -> bytes:
    heads = []
    for number, body in enumerate(bodies):
        headers = {**_HEADERS, "Content-Type": content_type, "Content-Length": str(len(body))}
        asked = [content_type, headers["Accept"], ""]  # and no Content-Encoding
        lines = [_id(number), *asked, *(line for header in headers.items() for line in header)]
        heads.append("".join(f"{line}\n" for line in lines).encode("latin-1"))
    records = [struct.pack("<IIHH", len(h), len(b), 0, 0) for h, b in zip(heads, bodies)]
    content = b"".join([struct.pack("<HH", len(bodies), 0), *records, *heads, *bodies])
    return struct.pack("<I", len(content)) + content


def _answer(
    connection: socket.socket, reader: io.BufferedReader, batch: bytes
) -> list[tuple[int, bytes]]:
    connection.sendall(batch)
    replies: dict[int, tuple[int, bytes]] = {}
    takes = 0
    while not takes:  # 0: further replies of this batch follow
        _, count, takes, *_ = struct.unpack("<IHHIII", _read(reader, 20))
        records = [struct.unpack("<HHII", _read(reader, 12)) for _ in range(count)]
        for _, _, head, _ in records:
            _read(reader, head)
        replies.update({index: (status, _read(reader, n)) for index, status, _, n in records})
    return [replies[index] for index in sorted(replies)]


# --- MMS's way ---


def _load(handler: str, model: Path, batch: int) -> bytes:
    texts = [_field(text.encode()) for text in ("m", str(model), handler, "9000")]
    numbers = [struct.pack("!i", number) for number in (batch, -1)]  # -1: no GPU
    return b"".join([b"L", *texts[:2], numbers[0], texts[2], numbers[1], texts[3]])


def _mms_frame(bodies: Sequence[bytes], content_type: str) -> bytes:
    end, parts = struct.pack("!i", -1), [b"I"]
    for number, body in enumerate(bodies):
        headers = {**_HEADERS, "Content-Type": content_type, "Content-Length": str(len(body))}
        lines = (text for header in headers.items() for text in header)
        parts += [_field(text.encode()) for text in (_id(number), *lines)]
        parts += [end, _field(b"body"), _field(content_type.encode()), _field(body), end]
    return b"".join([*parts, end])


def _mms_answer(
    connection: socket.socket, reader: io.BufferedReader, batch: bytes
) -> list[tuple[int, bytes]]:
    connection.sendall(batch)
    _integer(reader)
    _read(reader, _integer(reader))
    replies = []
    while (length := _integer(reader)) != -1:
        _read(reader, length)  # the request's id
        _read(reader, _integer(reader))  # its content type
        status = _integer(reader)
        _read(reader, _integer(reader))  # its phrase
        for _ in range(2 * _integer(reader)):  # its headers
            _read(reader, _integer(reader))
        replies.append((status, _read(reader, _integer(reader))))
    return replies


def _read(reader: io.BufferedReader, count: int) -> bytes:
    """Return the next ``count`` bytes.

    Raises:
        NotServing: the worker has ended.
    """
    data = reader.read(count)
    if len(data) < count:
        raise NotServing("the worker has ended")
    return data


def _integer(reader: io.BufferedReader) -> int:
    number: int = struct.unpack("!i", _read(reader, 4))[0]
    return number


def _field(value: bytes) -> bytes:
    return struct.pack("!i", len(value)) + value


def _id(number: int) -> str:
    return f"00000000-0000-4000-8000-{number:012}"


def batch_of(worker: Worker, bodies: Sequence[bytes], kind: str) -> bytes:
    """Return the bytes that carry bodies of one kind (json, csv, npy)."""
    return worker.frame(bodies, TYPES[kind])
