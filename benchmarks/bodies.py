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
from typing import Any, Iterator, NamedTuple

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


def cases() -> Iterator[tuple[str, Case]]:
    """All cases by name; each body is made when it is asked for."""
    arrays = Settings().max_array_bytes
    for name, (content_type, make) in {**hostile.TEXT, **hostile.BINARY}.items():
        yield name, Case(content_type, make(MMS_BODY_BYTES - 20_000))
    content_type, make = hostile.TEXT["JSON: numbers"]
    packed = gzip.compress(make(MMS_BODY_BYTES - 20_000))
    yield "gzip: JSON's numbers", Case(content_type, packed, "gzip")
    packed = gzip.compress(bytes(100 * MMS_BODY_BYTES))
    yield "gzip: a bomb", Case(content_type, packed, "gzip")
    members = gzip.compress(b"1") * (MMS_BODY_BYTES // 25)
    yield "gzip: very many members", Case(content_type, members, "gzip")
    for name, (content_type, make) in hostile.SMALL.items():
        yield f"small, {name}", Case(content_type, make(arrays - 4_000_000))
        yield (
            f"small, {name}, {BATCH} at once",
            Case(content_type, make(arrays - 4_000_000), "", BATCH),
        )
        yield f"small, {name}, twice the limit", Case(content_type, make(2 * arrays))


def main(*parts: str) -> None:
    """Measure the cases whose names have one of ``parts``, or all."""
    rows = []
    for name, case in cases():
        if parts and not any(part in name for part in parts):
            continue
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
