"""Our loading and predicting beside the peer's, in process; both must say the same.

The peer is the real sagemaker-mxnet-inference 1.5.5 (``pip install --no-deps``): its model_fn,
which it runs twice for a load, its input_fn, predict_fn and output_fn.  Ours is ``loading.load``
and its pipeline.  Both read and write NPY.

    python benchmarks/models.py [--rounds 5] [--only load|predict]

Prints medians with the least and the most; rounds of the two take turns.
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
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=["load", "predict"])
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        if chosen.only != "predict":
            _in_process(export, Path(made), "resnet50_v1")
            compare_loads(Path(made) / "resnet50_v1", chosen.rounds)
        if chosen.only != "load":
            for case in CASES:
                say(_in_process(compare_predictions, case, Path(made), chosen.rounds))


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _in_process(func: Callable[..., Any], *args: Any) -> Any:
    """What ``func`` returns in a new process, which has loaded nothing yet."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(func, args)


def _told(values: list[float], unit: str) -> str:
    return f"{statistics.median(values):.4g} ({min(values):.4g}-{max(values):.4g}) {unit}"


def _environment() -> None:
    """As MMS and our loading set it for a worker on a CPU, for both."""
    settings.export_defaults(
        {
            "OMP_NUM_THREADS": "1",
            "MXNET_USE_OPERATOR_TUNING": "0",
            "MXNET_ENGINE_TYPE": "NaiveEngine",
            "MXNET_SUBGRAPH_VERBOSE": "0",
        }
    )


# --- loading ---------------------------------------------------------------------------------


def export(made: Path, name: str, shape: tuple[int, ...] = PHOTO) -> None:
    """A model_dir of the default save with a net of the zoo, of random weights, and a sample."""
    import mxnet as mx

    folder = made / name
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
    """Load ResNet-50 in a new process each time: until it is loaded, and until it has answered.

    The peer answers nothing when it loads; ours does where a sample was packed.
    """
    found: dict[str, list[tuple[float, ...]]] = {"peer": [], "ours": [], "ours, warmed up": []}
    for _ in range(rounds):
        for who, loads in found.items():
            loads.append(_in_process(measured_load, who, folder))
    for who, loads in found.items():
        s, mb, s_1, mb_1, total = zip(*((one[:5]) for one in loads))
        say(f"load {folder.name}, {who}: {_told(list(s), 's')}, peak {_told(list(mb), 'MB')}")
        say(f"  until the first answer: {_told(list(s_1), 's')}, peak {_told(list(mb_1), 'MB')}")
        assert np.allclose(total, loads[0][4], rtol=1e-4), total
    totals = [loads[0][4] for loads in found.values()]
    assert np.allclose(totals, totals[0], rtol=1e-3), totals


def measured_load(who: str, folder: Path) -> tuple[float, float, float, float, float]:
    """Seconds and peak megabytes of a load and of load and answer; a number of the answer."""
    _environment()
    import mxnet as mx

    mx.nd.zeros((1,)).asnumpy()
    photo = np.random.RandomState(0).rand(1, *PHOTO).astype(np.float32)
    start = time.perf_counter()
    answer = peer_load(folder) if who == "peer" else our_load(folder, "warmed up" in who)
    loaded, peak = time.perf_counter() - start, _peak()
    total = float(np.abs(answer(photo)).sum())
    return loaded, peak, time.perf_counter() - start, _peak(), total


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def peer_load(folder: Path) -> Callable[[Any], Any]:
    from sagemaker_mxnet_serving_container import default_inference_handler as peer

    handler = peer.DefaultModuleInferenceHandler()
    handler.default_model_fn(str(folder))  # to see which kind it is: HandlerService
    model = handler.default_model_fn(str(folder))  # to serve it: Transformer
    return lambda rows: read(peer_predict(handler, model, npy(rows)))


def peer_predict(handler: Any, model: Any, body: bytes) -> Any:
    """From body to body, as the peer goes."""
    module = (model,) if hasattr(model, "predict") else ()
    data = handler.default_input_fn(body, NPY, *module)
    return handler.default_output_fn(handler.default_predict_fn(data, model), NPY)


def our_load(folder: Path, warmed_up: bool) -> Callable[[Any], Any]:
    """As a worker loads it, with the packed sample or without."""
    from mms_handler import manifest
    from mms_handler.worker import loading

    if not warmed_up:
        manifest.read_sample = lambda folder: None  # type: ignore[assignment]
    properties = {"model_dir": str(folder), "gpu_id": None, "batch_size": 1}
    context = SimpleNamespace(system_properties=properties, manifest=None)
    pipeline = loading.load(context, settings.Settings()).pipeline
    return lambda rows: read(ours(pipeline, [npy(rows)])[0])


def ours(pipeline: Any, bodies: list[bytes]) -> list[bytes]:
    from mms_handler.worker.request import Request

    replies = pipeline.answer([Request(body, NPY, NPY, {}) for body in bodies])
    return [reply.body for reply in replies]


def read(body: bytes) -> Any:
    return np.load(io.BytesIO(body))


# --- predicting ------------------------------------------------------------------------------

#: Model, rows of a request, requests at once.
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


def compare_predictions(case: tuple[str, int, int], made: Path, rounds: int) -> str:
    """One line: a request's milliseconds by the peer and by ours, and how many times as fast."""
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
    handler = handlers[kind]()
    (their_model, shape), (our_model, _) = model(name, made), model(name, made)
    bodies = [npy(noise.rand(rows, *shape).astype(np.float32)) for _ in range(requests)]
    pipeline = build(Script(), our_model, Options(mx.cpu()))
    prepare(pipeline, Request(bodies[0], NPY, NPY, {}), requests, faster=True)
    runs: dict[str, Callable[[], list[Any]]] = {
        "peer": lambda: [peer_predict(handler, their_model, body) for body in bodies],
        "ours": lambda: ours(pipeline, bodies),
    }
    for theirs, own in zip(runs["peer"](), runs["ours"]()):
        one, other = read(theirs), read(own)
        assert np.allclose(one, other, rtol=1e-3, atol=1e-5 * np.abs(one).max())
    times: dict[str, list[float]] = {who: [] for who in runs}
    for _ in range(rounds):
        for who, run in runs.items():
            times[who].append(1e3 * _each(run) / requests)
    gain = statistics.median(times["peer"]) / statistics.median(times["ours"])
    told = "; ".join(f"{who} {_told(one, 'ms')}" for who, one in times.items())
    return f"{name}, {rows} row(s) a request, {requests} at once: {told}; {gain:.1f} times as fast"


def _each(run: Callable[[], Any]) -> float:
    """Seconds of a run, of as many as take a fifth of a second."""
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < 0.2:
        run()
        count += 1
    return (time.perf_counter() - start) / count


def model(name: str, made: Path) -> tuple[Any, tuple[int, ...]]:
    """A model of this name, and the shape of its samples."""
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
    export(made, net)
    from mms_handler import models

    return models.load(made / net, 1, mx.cpu()), PHOTO


def _module(symbol: Any, shape: tuple[int, ...]) -> Any:
    import mxnet as mx

    module = mx.mod.Module(symbol, label_names=None)
    module.bind([("data", (1, *shape))], for_training=False)
    mx.random.seed(0)
    module.init_params(mx.init.Xavier())
    return module


if __name__ == "__main__":
    main()
