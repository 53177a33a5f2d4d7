"""Time mms_handler's codecs beside those of the peer, sagemaker-inference 1.6.1.

    python benchmarks/codecs.py [ROUNDS]

Both get the same body or array, and their results are compared before anything is timed.  The two
take turns.  Each figure is the median of the rounds, with the minimum and maximum, in milliseconds.
The peer's decoders and encoders are a call or two of json and NumPy each; those calls are written
out here, so the peer need not be installed.
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

#: A call that is shorter than this is repeated within one measurement.
_MIN_S = 0.02


class Case(NamedTuple):
    """One row of the table: the two calls, and ``same``, which compares their results."""

    name: str
    handler: Callable[[], Any]
    peer: Callable[[], Any]
    same: Callable[[Any, Any], bool]


def main(rounds: int) -> None:
    """Print the table as Markdown."""
    write = sys.stdout.write
    write("| | ours, ms | peer, ms | speed-up |\n|---|---|---|---|\n")
    for case in cases():
        if not case.same(case.handler(), case.peer()):
            sys.exit(f"{case.name}: mms_handler's result differs from the peer's")
        handler, peer = interleaved(case.handler, case.peer, rounds)
        speed_up = statistics.median(peer) / statistics.median(handler)
        write(f"| {case.name} | {figure(handler)} | {figure(peer)} | {speed_up:.1f} |\n")
        sys.stdout.flush()


def interleaved(
    first: Callable[[], Any], second: Callable[[], Any], rounds: int
) -> tuple[list[float], list[float]]:
    """Return the seconds of a call of each function, one figure a round."""
    calls = [(function, repeats(function)) for function in (first, second)]
    figures = [[seconds(*call) for call in calls] for _ in range(rounds)]
    return [row[0] for row in figures], [row[1] for row in figures]


def repeats(function: Callable[[], Any]) -> int:
    """Return how many calls take _MIN_S or longer."""
    return 1 + int(_MIN_S / seconds(function, 3))


def seconds(function: Callable[[], Any], number: int) -> float:
    """Return the mean seconds of ``number`` calls."""
    start = time.perf_counter()
    for _ in range(number):
        function()
    return (time.perf_counter() - start) / number


def figure(times: list[float]) -> str:
    """Format the median, minimum and maximum in milliseconds: ``4.21 (4.10-5.02)``."""
    median, minimum, maximum = (
        f"{1e3 * value:.3g}" for value in (statistics.median(times), min(times), max(times))
    )
    return f"{median} ({minimum}-{maximum})"


def cases() -> list[Case]:
    """Return the cases in the table's order, bodies of one image first."""
    rng = np.random.default_rng(2018)
    image = rng.random((1, 3, 224, 224), dtype=np.float32)
    table, digit, small = (
        rng.random(shape, dtype=np.float32) for shape in ((64, 784), (1, 784), (1, 4))
    )
    pixels = rng.integers(0, 256, (1, 784))
    # A classifier's output, with most of a thousand classes below 1e-4; and a regression's.
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
    """Compare decoding JSON; the peer's Transformer makes text of the body first."""
    body = json.dumps(array.tolist()).encode()
    return Case(
        name,
        lambda: codecs.decode(body, JSON),
        lambda: np.array(json.loads(body.decode())),
        same_floats,
    )


def decode_csv(name: str, array: Any) -> Case:
    """Compare decoding CSV; the peer returns one row as a vector."""
    body = "".join(",".join(map(str, row)) + "\n" for row in array).encode()
    return Case(
        name,
        lambda: codecs.decode(body, CSV),
        lambda: np.genfromtxt(io.StringIO(body.decode()), dtype=None, delimiter=","),
        lambda handler, peer: same_floats(handler, peer.reshape(array.shape)),
    )


def decode_npy(name: str, array: Any) -> Case:
    """Compare decoding NPY; the peer also allows pickles, which takes no time without one."""
    body = npy(array)
    return Case(
        name,
        lambda: codecs.decode(body, NPY),
        lambda: np.load(io.BytesIO(body), allow_pickle=False),
        same_floats,
    )


def encode_json(name: str, array: Any) -> Case:
    """Compare encoding JSON: both must write the same bytes."""
    return Case(
        name,
        lambda: codecs.encode(array, JSON, JSON)[0],
        lambda: json.dumps(array.tolist()).encode(),
        lambda handler, peer: bool(handler == peer),
    )


def encode_csv(name: str, array: Any) -> Case:
    """Compare encoding CSV; the peer writes each float32 with the digits of a double."""

    def peer() -> bytes:
        out = io.StringIO()
        np.savetxt(out, array.tolist(), delimiter=",", fmt="%s")
        return out.getvalue().encode()

    return Case(
        name,
        lambda: codecs.encode(array, CSV, JSON)[0],
        peer,
        lambda handler, peer: same_floats(codecs.decode(handler, CSV), codecs.decode(peer, CSV)),
    )


def encode_npy(name: str, array: Any) -> Case:
    """Compare encoding NPY; the peer gets lists, so it writes doubles."""
    return Case(
        name,
        lambda: codecs.encode(array, NPY, JSON)[0],
        lambda: npy(array.tolist()),
        lambda handler, peer: (
            handler == npy(array) and same_floats(array, codecs.decode(peer, NPY))
        ),
    )


def npy(array: Any) -> bytes:
    """Return what ``numpy.save`` writes."""
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


def same_floats(floats: Any, others: Any) -> bool:
    """Return whether ``others``, as float32, has the shape and the values of ``floats``."""
    return bool(floats.shape == others.shape and (floats == others.astype(np.float32)).all())


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else 11)
