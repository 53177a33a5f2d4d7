"""Times mms_handler's codecs against the way of the peer, sagemaker-inference 1.6.1.

    python benchmarks/codecs.py [ROUNDS]

Both get the same body, or the same array, and what comes out is compared before it is timed.
They take turns; a figure is the median of the rounds and their span, in milliseconds.  The peer's
decoder and encoder are a call or two of json and NumPy each, which stand here instead of it.
"""

from __future__ import annotations

import io
import json
import statistics
import sys
import time
from typing import Any, Callable, NamedTuple

import numpy as np

from mms_handler import codecs
from mms_handler.codecs import CSV, JSON, NPY

#: A measurement repeats what is quicker than this.
_LEAST_S = 0.02


class Case(NamedTuple):
    """One row of the table; ``same`` tells whether two results are equal."""

    name: str
    ours: Callable[[], Any]
    peers: Callable[[], Any]
    same: Callable[[Any, Any], bool]


def main(rounds: int) -> None:
    """Print the table as Markdown."""
    write = sys.stdout.write
    write("| | ours, ms | peer, ms | times |\n|---|---|---|---|\n")
    for case in cases():
        if not case.same(case.ours(), case.peers()):
            sys.exit(f"{case.name}: the results differ")
        ours, peers = interleaved(case.ours, case.peers, rounds)
        times = statistics.median(peers) / statistics.median(ours)
        write(f"| {case.name} | {figure(ours)} | {figure(peers)} | {times:.1f} |\n")
        sys.stdout.flush()


def interleaved(
    ours: Callable[[], Any], peers: Callable[[], Any], rounds: int
) -> tuple[list[float], list[float]]:
    """Seconds a call of each, a figure a round."""
    calls = [(function, repeats(function)) for function in (ours, peers)]
    figures = [[seconds(*call) for call in calls] for _ in range(rounds)]
    return [row[0] for row in figures], [row[1] for row in figures]


def repeats(function: Callable[[], Any]) -> int:
    """How many calls take _LEAST_S or more."""
    return 1 + int(_LEAST_S / seconds(function, 3))


def seconds(function: Callable[[], Any], number: int) -> float:
    """Seconds a call, of ``number`` calls."""
    start = time.perf_counter()
    for _ in range(number):
        function()
    return (time.perf_counter() - start) / number


def figure(row: list[float]) -> str:
    """Median and span: ``4.21 (4.10-5.02)``."""
    median, least, most = (
        f"{1e3 * value:.3g}" for value in (statistics.median(row), min(row), max(row))
    )
    return f"{median} ({least}-{most})"


def cases() -> list[Case]:
    """What is compared, bodies of one image first."""
    rng = np.random.default_rng(2018)
    image = rng.random((1, 3, 224, 224), dtype=np.float32)
    table, digit, small = (
        rng.random(shape, dtype=np.float32) for shape in ((64, 784), (1, 784), (1, 4))
    )
    pixels = rng.integers(0, 256, (1, 784))
    # As a network answers, most of a thousand classes below 1e-4; and as a regression does.
    classes = rng.exponential(size=(1, 1000)).astype(np.float32) ** 8
    classes /= classes.sum()
    outputs = rng.standard_normal((1, 100_000)).astype(np.float32)
    return [
        decode_json("JSON in, 150,528 floats", image),
        decode_json("JSON in, 64 x 784", table),
        decode_json("JSON in, 784 floats", digit),
        decode_json("JSON in, 784 pixels", pixels),
        decode_json("JSON in, 4 floats", small),
        decode_json("JSON in, [[1, 2]]", np.array([[1, 2]])),
        decode_csv("CSV in, 150,528 floats, one line", image.reshape(1, -1)),
        decode_csv("CSV in, 64 x 784", table),
        decode_csv("CSV in, 784 floats", digit),
        decode_csv("CSV in, 4 floats", small),
        decode_npy("NPY in, 150,528 floats", image),
        decode_npy("NPY in, 784 floats", digit),
        encode_json("JSON out, 100,000 floats", outputs),
        encode_json("JSON out, 1,000 classes", classes),
        encode_json("JSON out, 10 floats", outputs[:, :10]),
        encode_csv("CSV out, 100,000 floats", outputs),
        encode_csv("CSV out, 10 floats", outputs[:, :10]),
        encode_npy("NPY out, 100,000 floats", outputs),
        encode_npy("NPY out, 10 floats", outputs[:, :10]),
    ]


def decode_json(name: str, array: Any) -> Case:
    """The body is decoded to text first, as both are given it."""
    body = json.dumps(array.tolist()).encode()
    return Case(
        name,
        lambda: codecs.decode(body, JSON),
        lambda: np.array(json.loads(body.decode())),
        same_floats,
    )


def decode_csv(name: str, array: Any) -> Case:
    body = "".join(",".join(map(str, row)) + "\n" for row in array).encode()
    return Case(
        name,
        lambda: codecs.decode(body, CSV),
        lambda: np.genfromtxt(io.StringIO(body.decode()), dtype=None, delimiter=","),
        lambda ours, peers: same_floats(ours, peers.reshape(array.shape)),
    )


def decode_npy(name: str, array: Any) -> Case:
    """The peer allows pickle, too, which takes no time where there is none."""
    body = saved(array)
    return Case(
        name,
        lambda: codecs.decode(body, NPY),
        lambda: np.load(io.BytesIO(body), allow_pickle=False),
        same_floats,
    )


def encode_json(name: str, array: Any) -> Case:
    return Case(
        name,
        lambda: codecs.encode(array, JSON, JSON)[0],
        lambda: json.dumps(array.tolist()).encode(),
        lambda ours, peers: bool(ours == peers),
    )


def encode_csv(name: str, array: Any) -> Case:
    """The peer writes the digits of the double that a float32 equals."""

    def peers() -> bytes:
        out = io.StringIO()
        np.savetxt(out, array.tolist(), delimiter=",", fmt="%s")
        return out.getvalue().encode()

    return Case(
        name,
        lambda: codecs.encode(array, CSV, JSON)[0],
        peers,
        lambda ours, peers: same_floats(codecs.decode(ours, CSV), codecs.decode(peers, CSV)),
    )


def encode_npy(name: str, array: Any) -> Case:
    """The peer is given lists, and so writes doubles."""
    return Case(
        name,
        lambda: codecs.encode(array, NPY, JSON)[0],
        lambda: saved(array.tolist()),
        lambda ours, peers: ours == saved(array) and same_floats(array, codecs.decode(peers, NPY)),
    )


def saved(array: Any) -> bytes:
    """What ``numpy.save`` writes."""
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


def same_floats(ours: Any, peers: Any) -> bool:
    """Whether two arrays have one shape, and the same values as float32."""
    return bool(ours.shape == peers.shape and (ours == peers.astype(np.float32)).all())


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else 11)
