"""Measure the peak memory and the CPU time that hostile bodies cost a worker, and print a table.

Each body is answered by MMS's Service with our handler in a process of its own.  The model is a
Block that takes an array of any shape.  Texts are as large as MMS's limit of bodies; the arrays of
small bodies are as large as the limit of arrays.

Examples:
  python -m benchmarks.bodies
  python -m benchmarks.bodies "JSON Lines" PNG
"""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Callable, Iterator, NamedTuple

from benchmarks import hostile
from benchmarks.report import table
from mms_handler.settings import MMS_BODY_BYTES, Settings

ROOT = Path(__file__).parents[1]

#: Requests in a batch of small bodies: the largest that the server makes by itself.
BATCH = 32

SCRIPT = """\
from mxnet import gluon

class Mean(gluon.HybridBlock):
    def hybrid_forward(self, F, x):
        return F.mean(F.reshape(x, (1, -1)), axis=1)

def model_fn(model_dir):
    return Mean()
"""


class Case(NamedTuple):
    """Requests that come together."""

    content_type: str
    body: bytes
    encoding: str = ""
    count: int = 1


def cases() -> Iterator[tuple[str, Callable[[], Case]]]:
    """All cases by name; each is made when it is called."""
    size, arrays = MMS_BODY_BYTES - 20_000, Settings().max_array_bytes
    for name, (content_type, make) in {**hostile.TEXT, **hostile.BINARY}.items():
        yield name, lambda c=content_type, m=make: Case(c, m(size))
    content_type, numbers = hostile.TEXT["JSON: numbers"]
    for name, packed in {
        "JSON's numbers": lambda: gzip.compress(numbers(size)),
        "a bomb": lambda: gzip.compress(bytes(100 * MMS_BODY_BYTES)),
        "very many members": lambda: gzip.compress(b"1") * (MMS_BODY_BYTES // 25),
    }.items():
        yield f"gzip: {name}", lambda p=packed: Case(content_type, p(), "gzip")
    for name, (kind, make) in hostile.SMALL.items():
        for words, array_bytes, count in (
            ("", arrays - 4_000_000, 1),
            (f", {BATCH} at once", arrays - 4_000_000, BATCH),
            (", twice the limit", 2 * arrays, 1),
        ):
            yield (
                f"small, {name}{words}",
                lambda k=kind, m=make, b=array_bytes, n=count: Case(k, m(b), "", n),
            )


def main(*parts: str) -> None:
    """Measure the cases whose names have one of ``parts``, or all."""
    rows = []
    for name, make in cases():
        if parts and not any(part in name for part in parts):
            continue
        case = make()
        result = _in_a_process(name, case)
        size = len(case.body) * case.count
        per_byte = f"{result['bytes'] / size:.1f}" if size > 100_000 else "-"
        rows.append(
            [
                name,
                f"{size:,}",
                f"{result['bytes'] / 1e6:,.0f}",
                per_byte,
                f"{result['cpu_s']:.2f}",
                result["status"],
            ]
        )
        print(" | ".join(rows[-1]), file=sys.stderr, flush=True)
    print(table(["body", "bytes", "peak MB", "peak bytes per byte", "CPU s", "status"], rows))


def _in_a_process(name: str, case: Case) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="bodies-") as folder:
        (Path(folder) / "code").mkdir()
        (Path(folder) / "code" / "inference.py").write_text(SCRIPT)
        (Path(folder) / "body").write_bytes(case.body)
        process = subprocess.run(
            [
                sys.executable,
                "-m",
                "benchmarks.bodies",
                "--child",
                folder,
                case.content_type,
                case.encoding,
                str(case.count),
            ],
            cwd=ROOT,
            capture_output=True,
            env={**os.environ, "PYTHONWARNINGS": "ignore", "OMP_NUM_THREADS": "1"},
            text=True,
        )
        if process.returncode:
            raise RuntimeError(f"{name}: {process.stderr[-1000:]}")
        result: dict[str, Any] = json.loads(process.stdout.splitlines()[-1])
        return result


def _child(folder: str, content_type: str, encoding: str, count: str) -> None:
    """Answer the body in ``folder``, and print what that took."""
    from mms.model_loader import ModelLoaderFactory

    body = (Path(folder) / "body").read_bytes()
    os.chdir(folder)
    loader = ModelLoaderFactory.get_model_loader(folder)
    service = loader.load("m", folder, "mms_handler.service:handle", None, BATCH)
    service.predict([_request("application/json", "", b"[[1, 2]]")])
    service.predict([_request("image/png", "", hostile.png(8, 8))] * 2)
    requests = [_request(content_type, encoding, body) for _ in range(int(count))]
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again
    before, start = _status_bytes("VmRSS"), time.process_time()
    service.predict(requests)
    cpu_s = time.process_time() - start
    statuses = {service.context.get_response_status(i)[0] for i in range(int(count))}
    result = {
        "bytes": _status_bytes("VmHWM") - before,
        "cpu_s": cpu_s,
        "status": ", ".join(map(str, sorted(statuses))),
    }
    print(f"\n{json.dumps(result)}", flush=True)


def _request(content_type: str, encoding: str, body: bytes) -> dict[str, Any]:
    headers = {"Content-Type": content_type, "Content-Encoding": encoding}
    return {
        "requestId": b"a-request-id",
        "headers": [
            {"name": name.encode(), "value": value.encode()}
            for name, value in headers.items()
            if value
        ],
        "parameters": [{"name": "body", "contentType": content_type, "value": bytearray(body)}],
    }


def _status_bytes(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no line {name}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        _child(*sys.argv[2:])
    else:
        main(*sys.argv[1:])
