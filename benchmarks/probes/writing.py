"""Write the models that every system serves: artifacts, a script, bodies and right answers.

python -m benchmarks.probes.writing FOLDER

    FOLDER/NAME/model/    artifacts and code/inference.py: what is served
    FOLDER/NAME/rows-1/   0.json, 0.npy, 0.csv, 1.json, ...: bodies of one row
    FOLDER/NAME/rows-1/answers.npy: MXNet's own answer to each of them
    FOLDER/mlp/weights.npz    weight0, bias0, ...: for those who serve the MLP without MXNet
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any, Callable, NamedTuple

import mxnet as mx
import numpy as np

ROOT = Path(__file__).parents[2]

#: Different bodies for each model, so that a mix-up of two replies shows.
BODIES = 4

#: The peer needs a script, even if it uses only defaults.
NO_SCRIPT = '"""Every function is the default."""\n'

BLOCK_SCRIPT = '''\
"""Load what HybridBlock.export wrote; everything else is the default."""

import os

from mxnet import gluon


def model_fn(model_dir):
    symbol, params = (
        os.path.join(model_dir, name) for name in ("model-symbol.json", "model-0000.params")
    )
    return gluon.SymbolBlock.imports(symbol, ["data"], params)
'''

CONSTANT_SCRIPT = '''\
"""A Block that does nothing, so that only the server's own work is measured."""

from mxnet import gluon, nd


class Constant(gluon.Block):
    def __init__(self):
        super().__init__()
        self.reply = nd.zeros((1, 10))

    def forward(self, x):
        return self.reply


def model_fn(model_dir):
    return Constant()
'''


class Model(NamedTuple):
    """One model: its script, the bodies it is sent, and ``write``, which writes its artifacts."""

    write: Callable[[Path], None]
    row: tuple[int, ...]  # the shape of one row
    script: str = BLOCK_SCRIPT
    rows: tuple[int, ...] = (1,)  # rows of a body; bodies are written for each number


def mlp(folder: Path) -> None:
    net = mx.gluon.nn.HybridSequential()
    net.add(
        mx.gluon.nn.Dense(128, activation="relu"),
        mx.gluon.nn.Dense(64, activation="relu"),
        mx.gluon.nn.Dense(10),
    )
    _export(net, (1, 784), folder)
    layers = {
        f"{part}{number}": getattr(layer, part).data().asnumpy()
        for number, layer in enumerate(net)
        for part in ("weight", "bias")
    }
    np.savez(folder.parent / "weights.npz", **layers)


def zoo(name: str) -> Callable[[Path], None]:
    """Write a model of MXNet's zoo with random weights; its predictions need no meaning here."""

    def write(folder: Path) -> None:
        _export(mx.gluon.model_zoo.vision.get_model(name, classes=1000), (1, *IMAGE), folder)

    return write


def zoo_module(name: str) -> Callable[[Path], None]:
    """Write a zoo model as a training's default save does, for the default model_fn."""

    def write(folder: Path) -> None:
        zoo(name)(folder)
        _shapes(folder, (1, *IMAGE))

    return write


def copy(source: Path) -> Callable[[Path], None]:
    """Copy the artifacts of a model in this repository."""

    def write(folder: Path) -> None:
        for path in source.glob("model-*"):
            shutil.copy(path, folder)

    return write


def _export(net: Any, shape: tuple[int, ...], folder: Path) -> None:
    mx.random.seed(7)
    net.initialize(mx.init.Xavier("gaussian", "in", 2))  # others make all answers almost 0
    net.hybridize()
    net(mx.nd.zeros(shape))
    net.export(str(folder / "model"))


def _shapes(folder: Path, shape: tuple[int, ...]) -> None:
    (folder / "model-shapes.json").write_text(json.dumps([{"name": "data", "shape": shape}]))


IMAGE = (3, 224, 224)

MODELS = {
    "linear": Model(copy(ROOT / "model_archives" / "linear"), (2,), NO_SCRIPT, (100,)),
    "mnist": Model(copy(ROOT / "tests" / "data" / "mnist"), (784,), NO_SCRIPT, (1, 100)),
    "mlp": Model(mlp, (784,)),
    "mobilenet": Model(zoo("mobilenetv2_1.0"), IMAGE),
    "resnet18": Model(zoo("resnet18_v1"), IMAGE),
    "resnet50": Model(zoo("resnet50_v1"), IMAGE),
    "resnet50module": Model(zoo_module("resnet50_v1"), IMAGE, NO_SCRIPT),
    "constant": Model(lambda folder: None, (784,), CONSTANT_SCRIPT),
}


def write(name: str, folder: Path) -> None:
    """Write a model; the folder appears only when it is complete."""
    model, partial = MODELS[name], folder / f"{name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    (partial / "model" / "code").mkdir(parents=True)
    model.write(partial / "model")
    (partial / "model" / "code" / "inference.py").write_text(model.script)
    for rows in model.rows:
        write_bodies(partial / "model", partial / f"rows-{rows}", (rows, *model.row))
    partial.rename(folder / name)


def write_bodies(model: Path, folder: Path, shape: tuple[int, ...]) -> None:
    """Write random bodies of one shape as JSON, NPY and CSV, and the right answers."""
    folder.mkdir()
    bodies = np.random.RandomState(7).randn(BODIES, *shape).astype(np.float32)
    for number, body in enumerate(bodies):
        (folder / f"{number}.json").write_text(json.dumps(body.tolist()))
        np.save(folder / f"{number}.npy", body)
        np.savetxt(folder / f"{number}.csv", body.reshape(len(body), -1), "%.9g", ",")
    np.save(folder / "answers.npy", answers(model, bodies))


def answers(model: Path, bodies: Any) -> Any:
    """Return MXNet's own answer to each body."""
    if not (model / "model-symbol.json").exists():
        return np.zeros((len(bodies), 1, 10), np.float32)
    symbol, args, aux = mx.model.load_checkpoint(str(model / "model"), 0)
    labels = [name for name in symbol.list_arguments() if name.endswith("_label")]
    args.update({name: mx.nd.zeros(bodies.shape[1]) for name in labels})
    arguments = {**args, "data": mx.nd.zeros(bodies.shape[1:])}
    executor = symbol.bind(mx.cpu(), arguments, aux_states=aux)
    return np.stack([executor.forward(data=mx.nd.array(body))[0].asnumpy() for body in bodies])


if __name__ == "__main__":
    for name in MODELS:
        if not (Path(sys.argv[1]) / name).exists():
            write(name, Path(sys.argv[1]))
