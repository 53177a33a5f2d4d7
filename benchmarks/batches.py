"""Time a worker's Python for each request of a batch, beside a handler that does nothing.

    python -m benchmarks.batches [--rounds 5] [--seconds 0.5]

CPU time, in microseconds a request: medians with the minimum and maximum.  MMS's reader, objects
and frame of replies are in both.  The two take turns, round by round, each in its own process.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks import packing
from benchmarks.in_process import OUR_HANDLER, SERVE_ENV
from benchmarks.probing import probing

NOTHING = "benchmarks.probes.working:nothing"

#: The model, the rows of a body, its type, and how many requests come together.
CASES = [
    *(("mnist", 1, kind, requests) for kind in ("json", "csv", "npy") for requests in (1, 32)),
    *(("mnist", 100, "json", requests) for requests in (1, 8)),
    *(("mlp", 1, "json", requests) for requests in (1, 32)),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each (default: 5)")
    parser.add_argument("--seconds", type=float, default=0.5, help="of each (default: 0.5)")
    arguments = parser.parse_args()
    models = packing.models()
    with tempfile.TemporaryDirectory() as work:
        for name, rows, kind, requests in CASES:
            model = packing.unpacked(models / name / "model", Path(work) / name)
            body = _body(models / name / f"rows-{rows}" / "0.npy", kind, Path(work))
            figures = _measured(model, body, requests, Path(work), arguments)
            ours, nothing = (statistics.median(each) for each in figures)
            spread = " ".join(f"({min(each):.1f}-{max(each):.1f})" for each in figures)
            sys.stdout.write(
                f"{name}, {rows} x 784, {kind}, batch of {requests}: {ours:.1f} and {nothing:.1f} "
                f"{spread}; {ours - nothing:.1f} more\n"
            )
            sys.stdout.flush()


def _body(rows: Path, kind: str, work: Path) -> Path:
    """A body with these rows, as a file."""
    if kind == "csv":
        path = work / f"{rows.parent.name}.csv"
        np.savetxt(path, np.load(rows).reshape(-1, 784), "%.9g", ",")
        return path
    return rows.with_suffix(f".{kind}")


def _measured(
    model: Path, body: Path, requests: int, work: Path, arguments: argparse.Namespace
) -> tuple[list[float], list[float]]:
    """The microseconds of each round: ours, and with a handler that does nothing."""
    figures: tuple[list[float], list[float]] = ([], [])
    with contextlib.ExitStack() as stack:
        probes = [
            stack.enter_context(
                probing(
                    *(Path(sys.executable), "batching", handler, model, body, requests),
                    work=work,
                    env=env,
                )
            )
            for handler, env in ((OUR_HANDLER, SERVE_ENV), (NOTHING, {}))
        ]
        for number in range(arguments.rounds):
            for place in (0, 1) if number % 2 else (1, 0):
                figures[place].append(probes[place].measure(arguments.seconds)["us"])
    return figures


if __name__ == "__main__":
    main()
