"""Time loading and predicting beside the peer, in process; both must give the same answers.

The peer is the real sagemaker-mxnet-inference 1.5.5 (``pip install --no-deps``): its model_fn,
which it runs twice for a load, its input_fn, predict_fn and output_fn.  mms_handler's part is
``loading.load`` and its pipeline.  Both read and write NPY.

    python benchmarks/models.py [--rounds 5] [--only load|predict]

Prints medians with the minimum and maximum.  The two take turns, round by round.
"""

from __future__ import annotations

import argparse
import io
import multiprocessing
import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Callable

import numpy as np

from mms_handler import settings

NPY = "application/x-npy"
PHOTO = (3, 224, 224)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each (default: 5)")
    parser.add_argument(
        "--only", choices=["load", "predict"], help="time only loading, or only predicting"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        if arguments.only != "predict":
            _in_process(export, Path(work), "resnet50_v1")
            compare_loads(Path(work) / "resnet50_v1", arguments.rounds)
        if arguments.only != "load":
            for case in CASES:
                print_line(_in_process(compare_predictions, case, Path(work), arguments.rounds))


def print_line(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _in_process(func: Callable[..., Any], *args: Any) -> Any:
    """Call ``func`` in a new process, which has loaded nothing yet, and return its result."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(func, args)


def _figure(values: list[float], unit: str) -> str:
    return f"{statistics.median(values):.4g} ({min(values):.4g}-{max(values):.4g}) {unit}"


def _environment() -> None:
    """Set for both what MMS and ``loading`` set for a worker on a CPU."""
    settings.export_defaults(
        {
            "OMP_NUM_THREADS": "1",
            "MXNET_USE_OPERATOR_TUNING": "0",
            "MXNET_ENGINE_TYPE": "NaiveEngine",
            "MXNET_SUBGRAPH_VERBOSE": "0",
        }
    )


# --- loading ---------------------------------------------------------------------------------


def export(work: Path, name: str, shape: tuple[int, ...] = PHOTO) -> None:
    """Write a model_dir as the default save does: a zoo net with random weights, and a sample."""
    import mxnet as mx

    folder = work / name
    if folder.exists():
        return
    net = zoo(name)
    net.hybridize()
    net(mx.nd.zeros((1, *shape))).wait_to_read()
    folder.mkdir()
    net.export(str(folder / "model"))
    (folder / "model-shapes.json").write_text(
        '[{"name": "data", "shape": [1, %s]}]' % ", ".join(map(str, shape))
    )
    (folder / "MAR-INF").mkdir()
    (folder / "MAR-INF" / "sample.npy").write_bytes(npy(np.zeros((1, *shape), np.float32)))


def zoo(name: str) -> Any:
    import mxnet as mx

    mx.random.seed(0)
    net = getattr(mx.gluon.model_zoo.vision, name)()
    net.initialize(mx.init.Xavier())
    net(mx.nd.zeros((1, *PHOTO))).wait_to_read()
    return net


def npy(array: np.ndarray[Any, Any]) -> bytes:
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


def compare_loads(folder: Path, rounds: int) -> None:
    """Load ResNet-50 in new processes: the time until it is loaded, and until it has answered.

    The peer answers nothing while it loads; mms_handler does if a sample was packed.
    """
    loads: dict[str, list[tuple[float, ...]]] = {"peer": [], "ours": [], "ours, warmed up": []}
    for _ in range(rounds):
        for system, measurements in loads.items():
            measurements.append(_in_process(measured_load, system, folder))
    for system, measurements in loads.items():
        load_s, load_mb, answer_s, answer_mb, sums = zip(*measurements)
        times, peaks = _figure(list(load_s), "s"), _figure(list(load_mb), "MB")
        print_line(f"load {folder.name}, {system}: {times}, peak {peaks}")
        times, peaks = _figure(list(answer_s), "s"), _figure(list(answer_mb), "MB")
        print_line(f"  until the first answer: {times}, peak {peaks}")
        assert np.allclose(sums, measurements[0][4], rtol=1e-4), sums
    first_sums = [measurements[0][4] for measurements in loads.values()]
    assert np.allclose(first_sums, first_sums[0], rtol=1e-3), first_sums


def measured_load(system: str, folder: Path) -> tuple[float, float, float, float, float]:
    """Load, then answer once.

    Returns:
        Seconds and peak MB after the load, seconds and peak MB after the answer, and the sum of the
        answer's absolute values.
    """
    _environment()
    import mxnet as mx

    mx.nd.zeros((1,)).asnumpy()
    photo = np.random.RandomState(0).rand(1, *PHOTO).astype(np.float32)
    start = time.perf_counter()
    if system == "peer":
        answer = load_peer(folder)
    else:
        answer = load_handler(folder, warm_up="warmed up" in system)
    loaded, peak = time.perf_counter() - start, _peak_mb()
    total = float(np.abs(answer(photo)).sum())
    return loaded, peak, time.perf_counter() - start, _peak_mb(), total


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def load_peer(folder: Path) -> Callable[[Any], Any]:
    """Load as the peer does, and return a function from rows to their predictions."""
    from sagemaker_mxnet_serving_container import default_inference_handler as peer

    handler = peer.DefaultModuleInferenceHandler()
    handler.default_model_fn(str(folder))  # HandlerService loads it to see which kind it is,
    model = handler.default_model_fn(str(folder))  # and Transformer again to serve it
    return lambda rows: read(answer_peer(handler, model, npy(rows)))


def answer_peer(handler: Any, model: Any, body: bytes) -> Any:
    """Answer one request's body with the peer's functions."""
    module = (model,) if hasattr(model, "predict") else ()
    data = handler.default_input_fn(body, NPY, *module)
    return handler.default_output_fn(handler.default_predict_fn(data, model), NPY)


def load_handler(folder: Path, warm_up: bool) -> Callable[[Any], Any]:
    """Load as a worker does, and return a function from rows to their predictions.

    Without ``warm_up`` the packed sample is ignored.
    """
    from mms_handler import manifest
    from mms_handler.worker import loading

    if not warm_up:
        manifest.read_sample = lambda folder: None  # type: ignore[assignment]
    properties = {"model_dir": str(folder), "gpu_id": None, "batch_size": 1}
    context = SimpleNamespace(system_properties=properties, manifest=None)
    pipeline = loading.load(context, settings.Settings()).pipeline
    return lambda rows: read(answer(pipeline, [npy(rows)])[0])


def answer(pipeline: Any, bodies: list[bytes]) -> list[bytes]:
    """Answer requests that came together with mms_handler's pipeline."""
    from mms_handler.worker.request import Request

    replies = pipeline.answer([Request(body, NPY, NPY, {}) for body in bodies])
    return [reply.body for reply in replies]


def read(body: bytes) -> Any:
    return np.load(io.BytesIO(body))


# --- predicting ------------------------------------------------------------------------------

#: Model, rows of a request, requests in a batch.
CASES = [
    ("linear Module", 1, 1),
    ("linear Module", 100, 1),
    ("linear Module", 1, 32),
    ("MLP Module", 1, 1),
    ("MLP Module", 100, 1),
    ("MLP Module", 1, 32),
    ("MLP Block", 1, 1),
    ("MLP Block", 1, 32),
    ("mobilenet_v2_1_0 Block", 1, 1),
    ("mobilenet_v2_1_0 Block", 1, 8),
    ("mobilenet_v2_1_0 Module", 1, 1),
    ("resnet18_v1 Block", 1, 1),
    ("resnet50_v1 Block", 1, 1),
    ("resnet50_v1 Module", 1, 1),
]


def compare_predictions(case: tuple[str, int, int], work: Path, rounds: int) -> str:
    """Return a line with the milliseconds of a request by both, and their ratio."""
    _environment()
    import mxnet as mx
    from sagemaker_mxnet_serving_container import default_inference_handler as peer

    from mms_handler.script.load import Script
    from mms_handler.worker.pipeline import Options, build
    from mms_handler.worker.request import Request
    from mms_handler.worker.sample import prepare

    (name, rows, requests), noise = case, np.random.RandomState(0)
    kind = name.rpartition(" ")[2]
    handlers = {
        "Module": peer.DefaultModuleInferenceHandler,
        "Block": peer.DefaultGluonBlockInferenceHandler,
    }
    peer_handler = handlers[kind]()
    (peer_model, shape), (handler_model, _) = model(name, work), model(name, work)
    bodies = [npy(noise.rand(rows, *shape).astype(np.float32)) for _ in range(requests)]
    pipeline = build(Script(), handler_model, Options(mx.cpu()))
    prepare(pipeline, Request(bodies[0], NPY, NPY, {}), requests, faster=True)
    runs: dict[str, Callable[[], list[Any]]] = {
        "peer": lambda: [answer_peer(peer_handler, peer_model, body) for body in bodies],
        "ours": lambda: answer(pipeline, bodies),
    }
    for peer_reply, handler_reply in zip(runs["peer"](), runs["ours"]()):
        expected, prediction = read(peer_reply), read(handler_reply)
        atol = 1e-5 * np.abs(expected).max()
        assert np.allclose(expected, prediction, rtol=1e-3, atol=atol)
    times: dict[str, list[float]] = {system: [] for system in runs}
    for _ in range(rounds):
        for system, run in runs.items():
            times[system].append(1e3 * _each(run) / requests)
    speed_up = statistics.median(times["peer"]) / statistics.median(times["ours"])
    figures = "; ".join(f"{system} {_figure(row, 'ms')}" for system, row in times.items())
    return f"{name}, {rows} row(s) a request, batches of {requests}: {figures}; {speed_up:.1f} x"


def _each(run: Callable[[], Any]) -> float:
    """Return the mean seconds of a run, over as many runs as fit into a fifth of a second."""
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < 0.2:
        run()
        count += 1
    return (time.perf_counter() - start) / count


def model(name: str, work: Path) -> tuple[Any, tuple[int, ...]]:
    """Make the model of this name, and return it with the shape of one row."""
    import mxnet as mx

    net, _, kind = name.rpartition(" ")
    if net == "linear":
        return _module(mx.sym.FullyConnected(mx.sym.var("data"), num_hidden=1), (2,)), (2,)
    if net == "MLP" and kind == "Module":
        hidden = mx.sym.FullyConnected(mx.sym.var("data"), num_hidden=128)
        output = mx.sym.FullyConnected(mx.sym.relu(hidden), num_hidden=10)
        return _module(mx.sym.softmax(output), (784,)), (784,)
    if net == "MLP":
        mx.random.seed(0)
        block = mx.gluon.nn.HybridSequential()
        block.add(mx.gluon.nn.Dense(128, activation="relu", in_units=784))
        block.add(mx.gluon.nn.Dense(10, in_units=128))
        block.initialize(mx.init.Xavier())
        return block, (784,)
    if kind == "Block":
        return zoo(net), PHOTO
    export(work, net)
    from mms_handler import models

    return models.load(work / net, 1, mx.cpu()), PHOTO


def _module(symbol: Any, shape: tuple[int, ...]) -> Any:
    import mxnet as mx

    module = mx.mod.Module(symbol, label_names=None)
    module.bind([("data", (1, *shape))], for_training=False)
    mx.random.seed(0)
    module.init_params(mx.init.Xavier())
    return module


if __name__ == "__main__":
    main()
