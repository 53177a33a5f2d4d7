"""Every kind of script that was ever written for the contract (CONTRACT C, P1 to P18), over HTTP.

Each has a folder in ``patterns``.  The binary files of a model_dir are made here, in the way the
trainings made them.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import multiprocessing
import pickle
import shutil
import warnings
from pathlib import Path
from typing import Any, Callable, Iterator, NamedTuple

import numpy as np
import pytest
from running_mms import wait_for

from mms_handler import archive, client

PATTERNS = Path(__file__).parent / "patterns"

JSON, CSV, NPY = "application/json", "text/csv", "application/x-npy"


class Exchange(NamedTuple):
    """A request, and the reply that it must get."""

    body: bytes
    reply: bytes
    content_type: str = JSON
    accept: str = "*/*"
    reply_type: str = JSON
    status: int = 200


class Pattern(NamedTuple):
    """A folder of ``patterns``, a function that writes its artifacts, and its exchanges."""

    folder: str
    exchanges: list[Exchange]
    artifacts: Callable[[Path], None] = lambda folder: None
    log_line: str = ""  # a part of a line that must be in the log once


def npy(rows: list[list[float]]) -> bytes:
    out = io.BytesIO()
    np.save(out, np.array(rows, np.float32))
    return out.getvalue()


# --- artifacts of trainings --------------------------------------------------------------------


def module(name: str = "data", rows: int = 100) -> Any:
    """Make a bound Module: [1, 2] gives [15, 31]."""
    import mxnet as mx

    symbol = mx.sym.FullyConnected(mx.sym.var(name), num_hidden=2, name="fc")
    bound_module = mx.mod.Module(symbol, data_names=[name], label_names=None)
    bound_module.bind([(name, (rows, 2))], for_training=False)
    weight, bias = mx.nd.array([[1, 2], [3, 4]]), mx.nd.array([10, 20])
    bound_module.set_params({"fc_weight": weight, "fc_bias": bias}, {})
    return bound_module


def default_save(folder: Path) -> None:
    """Write the default save's three files, of a Module trained in batches of 100."""
    module().save_checkpoint(str(folder / "model"), 0)
    (folder / "model-shapes.json").write_text('[{"name": "data", "shape": [100, 2]}]')


def checkpoint(folder: Path) -> None:
    """Write a checkpoint of a Module whose input is called "1"."""
    module("1").save_checkpoint(str(folder / "super"), 5)


def dense(rows: list[list[float]]) -> Any:
    """Make a Dense without bias: each output is the product of a row with the data."""
    import mxnet as mx

    net = mx.gluon.nn.Dense(len(rows), in_units=len(rows[0]), use_bias=False)
    net.initialize()
    net.weight.set_data(mx.nd.array(rows))
    return net


def gluon_params(folder: Path) -> None:
    """Write the parameters of a Dense: [1, 2] gives [5, 11]."""
    dense([[1, 2], [3, 4]]).save_parameters(str(folder / "net.params"))


def export(prefix: str, epoch: int, rows: list[list[float]]) -> Callable[[Path], None]:
    """Return a function that calls HybridBlock.export, which writes no file of shapes."""

    def write(folder: Path) -> None:
        import mxnet as mx

        net = dense(rows)
        net.hybridize()
        net(mx.nd.ones((1, len(rows[0]))))
        net.export(str(folder / prefix), epoch)

    return write


def script_save(
    script: str, *weights: list[list[float]], extra: Any = None
) -> Callable[[Path], None]:
    """Return a function that calls the script's ``save`` with its network and these weights.

    ``extra`` is a tuple that the script saves together with the network.
    """

    def write(folder: Path) -> None:
        import mxnet as mx

        spec = importlib.util.spec_from_file_location("trained", folder / "code" / script)
        script_module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(script_module)
        build = getattr(script_module, "define_network", None) or script_module.build
        net = build(*extra) if extra else build()
        net.initialize()
        for parameter, values in zip(net.collect_params().values(), weights):
            parameter.set_data(mx.nd.array(values))
        script_module.save((net, *extra) if extra else net, str(folder))

    return write


def files(**contents: Any) -> Callable[[Path], None]:
    """Return a function that writes JSON files; ``model__net`` is model/net.json."""

    def write(folder: Path) -> None:
        for name, content in contents.items():
            path = folder / (name.replace("__", "/") + ".json")
            path.parent.mkdir(exist_ok=True)
            path.write_text(json.dumps(content))

    return write


def both(*writers: Callable[[Path], None]) -> Callable[[Path], None]:
    """Return a function that calls all writers."""
    return lambda folder: [write(folder) for write in writers] and None


# --- the patterns ----------------------------------------------------------------------------

RETURN_VALUES = [
    ("list", b'[1, "two", 3.5]', JSON),
    ("dict", b'{"a": [1, null]}', JSON),
    ("dict and type", b'{"b": 2}', JSON),
    ("list and odd type", b"[1, 2]", "application/vnd.mine+json"),
    ("int", b"7", JSON),
    ("float", b"0.5", JSON),
    ("float32", b"0.10000000149011612", JSON),
    ("str", b"a text", JSON),
    ("str and type", "caf\u00e9".encode(), "text/plain"),
    ("bytes", b"\x00\xff", JSON),
    ("bytearray", b"\x01\xfe", JSON),
    ("numpy", b"[[1.0, 2.0], [3.0, 4.0]]", JSON),
    ("ndarray", b"[[1.0, 2.0], [3.0, 4.0]]", JSON),
    ("ndarrays", b"[[1.0], [2.0, 3.0]]", JSON),
    ("lists of ndarrays", b"[[[1.0]], [[2.0, 3.0]]]", JSON),
    ("dict of ndarrays", b'{"scores": [0.5, 1.0]}', JSON),
    ("pickle", pickle.dumps([1, 2], protocol=2), "pickle_buffer"),
    ("nothing", b"", JSON),
]

CASES = {
    "P1 Module + all defaults": Pattern(
        "p01_module_defaults",
        [
            Exchange(b"[[1, 2]]", b"[[15.0, 31.0]]"),
            Exchange(b"[[1, 2], [3, 4], [0, 0]]", b"[[15.0, 31.0], [21.0, 45.0], [10.0, 20.0]]"),
            Exchange(b"1,2\n3,4\n", b"15.0,31.0\r\n21.0,45.0\r\n", CSV, CSV, CSV),
            Exchange(npy([[1, 2]]), npy([[15, 31]]), NPY, NPY, NPY),
        ],
        default_save,
    ),
    "P1 Module + all defaults: an exported HybridBlock": Pattern(
        "p01_exported",
        [
            Exchange(b"[[1, 2]]", b"[[5.0, 11.0]]"),
            Exchange(b"3,4\n1,2\n0,1\n", b"[[11.0, 25.0], [5.0, 11.0], [2.0, 4.0]]", CSV),
        ],
        export("mnist", 3, [[1, 2], [3, 4]]),
    ),
    "P2 Gluon save/model_fn/transform_fn": Pattern(
        "p02_gluon_save_model_fn_transform_fn",
        [Exchange(b"[1, 2]", b"2.0"), Exchange(b"[5, 1]", b"0.0", accept=JSON)],
        script_save("mnist.py", [[1, 0], [0, 1]], [[1, 0], [0, 0], [0, 1]]),
    ),
    "P3 tuple models": Pattern(
        "p03_tuple_models",
        [Exchange(b'["good film", "bad bad film"]', b"[0, 1]")],
        script_save(
            "sentiment.py", [[1, 0, 0], [0, 1, 0]], extra=({"good": 0, "bad": 1, "film": 2},)
        ),
    ),
    "P4 transform_fn only with default model_fn": Pattern(
        "p04_transform_fn_only",
        [
            Exchange(
                b'{"volume": [[1, 2]]}',
                b'{"shape": [1, 2], "mask": [[15.0, 31.0]], "bytes": 20}',
            )
        ],
        default_save,
    ),
    "P5 model_fn only": Pattern(
        "p05_model_fn_only",
        [
            Exchange(b"[[1, 2]]", b"[[15.0, 31.0]]"),
            Exchange(
                b"1,2\n" * 101 + b"3,4", b"15.0,31.0\r\n" * 101 + b"21.0,45.0\r\n", CSV, CSV, CSV
            ),
        ],
        checkpoint,
    ),
    "P6 partial overrides, new order": Pattern(
        "p06_partial_overrides",
        [
            Exchange(b"1;2\n3;4", b"[[10.0, 22.0], [22.0, 50.0]]", CSV),
            Exchange(b"1;2", b"10.0,22.0\r\n", CSV, CSV, CSV),
        ],
        gluon_params,
    ),
    "P7 transform+others in one file": Pattern(
        "p07_transform_and_others",
        [Exchange(b"[1, 2]", b'{"by": "transform_fn", "answer": [3, 6]}')],
        files(scale={"scale": 3}),
        log_line="transform_fn replaces process_request_fn, input_fn, predict_fn, output_fn, "
        "which will not be called",
    ),
    "P7 process_request_fn, the undocumented one": Pattern(
        "p07_process_request_fn",
        [
            Exchange(
                b'{"rows": [[1, 2], [3, 4]]}',
                b'{"by": "process_request_fn", "answer": [[15.0, 31.0], [21.0, 45.0]]}',
            )
        ],
        default_save,
        log_line="process_request_fn replaces input_fn, which will not be called",
    ),
    "P8 foreign model types": Pattern(
        "p08_foreign_model_types",
        [Exchange(b'{"inputs": [[1, 2], [3, 4]]}', b'{"predictions": [5, 11], "model": "linear"}')],
        files(model__model=[1, 2]),
    ),
    "P9 relative paths: cwd = model dir at serving": Pattern(
        "p09_relative_paths",
        [Exchange(b'"Well DONE"', b"[[5.0]]"), Exchange(b'"done well"', b"[[4.0]]")],
        both(export("checkpoint", 0, [[1, 2]]), files(vocab={"well": 1, "done": 2})),
    ),
    "P10 siblings/star imports, data files beside __file__": Pattern(
        "p10_siblings",
        [Exchange(b"[4, 6]", b'{"labels": ["low", "high"], "level": [40]}')],
    ),
    "P11 pip install at import/model_fn, slow load": Pattern(
        "p11_pip_at_import", [Exchange(b"[1, 2]", b"[0, [3.0, 6.0]]")]
    ),
    "P12 non-tuple/dict/list/str/bytes/odd content types": Pattern(
        "p12_what_is_returned",
        [
            Exchange(json.dumps(word).encode(), reply, reply_type=kind)
            for word, reply, kind in RETURN_VALUES
        ]
        + [
            Exchange(b"numpy", b"1.0,2.0\r\n3.0,4.0\r\n", CSV, CSV, CSV),
            Exchange(b"list", b'[1, "two", 3.5]', CSV, "application/json;q=0.5, image/png"),
            Exchange(b"str", b"a text", CSV, "text/plain", "text/plain"),
            Exchange(b"response", b"<p>later</p>", CSV, reply_type="text/html", status=202),
        ],
    ),
    "P13 extra default parameters and annotations": Pattern(
        "p13_extra_parameters",
        [
            Exchange(
                b'{"target": [1, 2]}\n{"target": [5]}\n',
                b'{"mean": 1.5, "samples": 1000, "size": [112, 112], "freq": "D"}\n'
                b'{"mean": 5.0, "samples": 1000, "size": [112, 112], "freq": "D"}',
                "application/jsonlines",
                "application/jsonlines",
                "application/jsonlines",
            )
        ],
    ),
    "P14 SM_* present at hosting import": Pattern(
        "p14_sm_variables",
        [
            Exchange(
                b"",
                b'{"cpus": %d, "gpus": true, "master": true, "root": true}'
                % multiprocessing.cpu_count(),
            )
        ],
    ),
    "P15 training_utils import": Pattern(
        "p15_training_utils",
        [
            Exchange(b"[[1, 2]]", b'[[[5.0, 11.0]], "algo-1", "a"]'),
            Exchange(b"[[1, 2", b"sorry: JSONDecodeError", reply_type="text/plain"),
        ],
        gluon_params,
    ),
    "P16 script named like a library (gluon.py) or a library like our names": Pattern(
        "p16_called_gluon", [Exchange(b"[[1, 2]]", b"[[8.0, 14.0]]")], gluon_params
    ),
    "P16 script named like a library that it uses": Pattern(
        "p16_called_like_a_library", [Exchange(b"[3, 1, 2]", b'[2, "Basic"]')]
    ),
    "P17 main guard before/after hosting functions": Pattern(
        "p17_main_guards", [Exchange(b'"great and dull"', b"[1, 0, -1]")]
    ),
    "P18 old API names net.load_params/save_params": Pattern(
        "p18_old_names",
        [Exchange(b"[1, 2]", b'{"best": 11.0}')],
        script_save("cifar10.py", [[1, 2], [3, 4]]),
    ),
}


@contextlib.contextmanager
def served(front: Any, folder: Path) -> Iterator[None]:
    """Register the archive of ``folder`` for the length of a ``with`` block."""
    target = archive.pack(folder, front.store / f"{folder.name}.mar")
    answer = front.add(folder.name)
    lines = [line for line in front.log.read_text().splitlines() if f"model {folder.name}:" in line]
    assert answer.status == 200, lines or answer.message()
    try:
        yield
    finally:
        client.unregister(front.management, folder.name)
        target.unlink()


@pytest.mark.parametrize("pattern", [pytest.param(case, id=name) for name, case in CASES.items()])
def test_an_old_script_is_served_unchanged(front, tmp_path, pattern):
    """It needs no edit, and gives the same replies as it always did."""
    folder = tmp_path / pattern.folder
    shutil.copytree(PATTERNS / pattern.folder, folder, ignore=shutil.ignore_patterns("__pycache__"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some scripts use deprecated names
        pattern.artifacts(folder)
    with served(front, folder):
        for exchange in pattern.exchanges:
            answer = front.ask(folder.name, exchange.body, exchange.content_type, exchange.accept)
            answered = (answer.status, answer.body, answer.content_type)
            expected = (exchange.status, exchange.reply, exchange.reply_type)
            assert answered == expected, exchange.body
        if pattern.log_line:
            wait_for(lambda: pattern.log_line in front.log.read_text(), 30)  # MMS writes it later
            assert front.log.read_text().count(pattern.log_line) == 1


def test_every_pattern_is_here():
    """The cases are P1 to P18, and each folder is used by one case."""
    assert {int(name.split()[0][1:]) for name in CASES} == set(range(1, 19))
    folders = {path.name for path in PATTERNS.iterdir() if path.is_dir()}
    assert folders == {case.folder for case in CASES.values()}
