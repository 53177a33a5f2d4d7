"""Compare transform with what the model's predict alone takes for the same records.

Each has one process with one thread.  Predict alone gets arrays that are decoded already, in the
batch that is best for it, and its predictions are thrown away; transform reads a file, and writes
one.  The time to load is in neither: a transform is timed from its first done part on.  They take
turns, and the best round of each counts.

    python -m benchmarks.transform [mobilenet_v2 resnet18 mlp] [--rounds 3]
"""

from __future__ import annotations

import argparse
import contextlib
import io
import multiprocessing
import os
import shutil
import struct
import tempfile
import time
from pathlib import Path
from typing import Any, Callable, Iterator, NamedTuple

import numpy as np

from benchmarks.report import table
from mms_handler.transform import Options, transform
from mms_handler.transform.answering import Query
from mms_handler.transform.process import LoadedModel, Setup
from mms_handler.transform.run import Ready, Target, local

#: Rows that predict alone gets at once; the best number counts.
BATCHES = (1, 4, 8, 16, 32, 64, 128, 256, 512)

#: Seconds for each of these numbers.
TRY_S = 1.0


class Case(NamedTuple):
    """A model, and its records.

    Fields:
        shape: of a record.
        records: in a file.
        content_type: of a record: NPY in frames of RecordIO, or CSV in lines.
    """

    shape: tuple[int, ...]
    records: int
    content_type: str

    @property
    def options(self) -> Options:
        """The job's."""
        kinds = {"application/x-npy": "RecordIO", "text/csv": "Line"}
        return Options(
            split_type=kinds[self.content_type],
            assemble_with="Line",
            content_type=self.content_type,
            accept="text/csv",
        )


CASES = {
    "mobilenet_v2": Case((3, 224, 224), 320, "application/x-npy"),
    "resnet18": Case((3, 224, 224), 192, "application/x-npy"),
    "mlp": Case((16,), 1_000_000, "text/csv"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("cases", nargs="*", default=list(CASES), metavar="CASE")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each (default: 3)")
    parser.add_argument("--scale", type=float, default=1, help="of the numbers of records")
    arguments = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as name:
        for each in arguments.cases:
            case = CASES[each]
            case = case._replace(records=max(64, int(case.records * arguments.scale)))
            rows.append(compared(each, case, Path(name) / each, arguments.rounds))
    heads = ("model", "records of", "predict alone, rows/s", "best batch", "transform, rows/s")
    print(table((*heads, "of predict alone"), rows))


def compared(name: str, case: Case, folder: Path, rounds: int) -> tuple[str, ...]:
    """A row of the table."""
    folder.mkdir()
    in_process(export, name, folder / "model")
    records = folder / "records"
    write(case, records)
    alone: list[tuple[float, int]] = []
    whole: list[float] = []
    for _ in range(rounds):
        alone.append(in_process(predict_alone, folder / "model", case))
        whole.append(transform_rate(folder, case))
    (rate, batch), ours = max(alone), max(whole)
    kind = "CSV lines" if case.content_type == "text/csv" else "NPY in RecordIO"
    cells = (f"{rate:,.0f}", str(batch), f"{ours:,.0f}", f"{ours / rate:.2f}")
    return (name, kind, *cells)


def in_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in a new process with one thread; return its result."""
    os.environ["OMP_NUM_THREADS"] = "1"
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def export(name: str, folder: Path) -> None:
    """Write a model of the zoo, or a small one, with random parameters."""
    import mxnet as mx
    from mxnet.gluon.model_zoo import vision

    makers = {"mobilenet_v2": vision.mobilenet_v2_1_0, "resnet18": vision.resnet18_v1}
    if name in makers:
        net = makers[name]()
    else:
        net = mx.gluon.nn.HybridSequential()
        net.add(*[mx.gluon.nn.Dense(64, activation="relu") for _ in range(2)])
        net.add(mx.gluon.nn.Dense(4))
    net.initialize(mx.init.Xavier())
    net.hybridize()
    net(mx.nd.zeros((1, *CASES[name].shape)))
    folder.mkdir()
    net.export(str(folder / "model"))


def write(case: Case, file: Path) -> None:
    """Write the file of records, of which only the first few differ."""
    noise = np.random.RandomState(0)
    arrays = [noise.uniform(-1, 1, case.shape).astype(np.float32) for _ in range(16)]
    bodies = list(map(framed if case.content_type != "text/csv" else line, arrays))
    with file.open("wb") as stream:
        for number in range(case.records):
            stream.write(bodies[number % len(bodies)])


def framed(array: Any) -> bytes:
    """A row as NPY, in a frame."""
    data = npy(array)
    return struct.pack("<II", 0xCED7230A, len(data)) + data + b"\0" * (-len(data) % 4)


def npy(array: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array[None])
    return stream.getvalue()


def line(array: Any) -> bytes:
    return ",".join(f"{value:.5f}" for value in array).encode() + b"\n"


def predict_alone(model: Path, case: Case) -> tuple[float, int]:
    """Rows a second of the model's predict in its best batch, and that batch."""
    loaded = LoadedModel(Setup(model, None, case.options, {}, os.getppid()))
    body = npy(np.zeros(case.shape, np.float32))
    loaded.ask(Query([body], "application/x-npy", "text/csv"))
    predictor = loaded._pipeline.predictor
    return max((rate(predictor, case.shape, batch), batch) for batch in BATCHES)


def rate(predictor: Any, shape: tuple[int, ...], batch: int) -> float:
    """Rows a second in batches of a size; 0 if one batch takes too long."""
    data = predictor.take(np.random.RandomState(1).rand(batch, *shape).astype(np.float32))
    predictor(data)
    start, runs = time.perf_counter(), 0
    while time.perf_counter() - start < TRY_S:
        predictor(data)
        runs += 1
    return runs * batch / (time.perf_counter() - start)


def transform_rate(folder: Path, case: Case) -> float:
    """Records a second of a transform with one process, from its first done part on."""
    times: list[tuple[float, int]] = []

    @contextlib.contextmanager
    def timed() -> Iterator[Ready]:
        with local(str(folder / "model"), case.options, workers=1) as ready:

            def execute(parts: Any) -> Iterator[Any]:
                for done in ready.execute(parts):
                    times.append((time.perf_counter(), done.records))
                    yield done

            yield ready._replace(execute=execute)

    target = Target(str(folder / "records"), str(folder / "out"))
    os.environ["OMP_NUM_THREADS"] = "1"
    report = transform(timed(), target, case.options)
    assert report.complete
    assert not report.error_count
    assert report.records == case.records
    shutil.rmtree(folder / "out")
    seconds = times[-1][0] - times[0][0]
    return sum(records for _, records in times[1:]) / seconds


if __name__ == "__main__":
    main()
