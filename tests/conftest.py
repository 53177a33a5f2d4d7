"""Fixtures for all tests: tiny models, a model_dir builder, ports.  mxnet only where asked for."""

from __future__ import annotations

import contextlib
import random
import socket
from pathlib import Path
from typing import Any, Callable

import pytest


@pytest.fixture
def block() -> Any:
    """A Dense without bias, weight [[1, 2], [3, 4]]: [1, 2] gives [5, 11]."""
    import mxnet as mx

    net = mx.gluon.nn.Dense(2, in_units=2, use_bias=False)
    net.initialize()
    net.weight.set_data(mx.nd.array([[1, 2], [3, 4]]))
    return net


@pytest.fixture
def module() -> Callable[..., Any]:
    """Builds a bound Module, weight [[1, 2], [3, 4]] and bias [10, 20]: [1, 2] gives [15, 31]."""
    import mxnet as mx

    def build(rows: int = 1) -> Any:
        symbol = mx.sym.FullyConnected(mx.sym.var("data"), num_hidden=2, name="fc")
        built = mx.mod.Module(symbol, label_names=None)
        built.bind([("data", (rows, 2))], for_training=False)
        weight, bias = mx.nd.array([[1, 2], [3, 4]]), mx.nd.array([10, 20])
        built.set_params({"fc_weight": weight, "fc_bias": bias}, {})
        return built

    return build


@pytest.fixture
def model_dir(tmp_path: Path, block: Any, module: Callable[..., Any]) -> Callable[..., Path]:
    """Builds a model_dir: net.params, the default save's three files, code/inference.py."""
    import mxnet as mx

    def build(script: str | None = None) -> Path:
        built = module()
        block.save_parameters(str(tmp_path / "net.params"))
        built.symbol.save(str(tmp_path / "model-symbol.json"))
        params = {f"arg:{name}": value for name, value in built.get_params()[0].items()}
        mx.nd.save(str(tmp_path / "model-0000.params"), params)
        (tmp_path / "model-shapes.json").write_text('[{"name": "data", "shape": [8, 2]}]')
        if script is not None:
            (tmp_path / "code").mkdir()
            (tmp_path / "code" / "inference.py").write_text(script)
        return tmp_path

    return build


@pytest.fixture
def free_port_pair() -> tuple[int, int]:
    """Two free loopback ports below 32,767, as MMS wants them; nothing holds them afterwards."""
    ports: list[int] = []
    with contextlib.ExitStack() as held:
        for port in random.sample(range(20_000, 32_767), 200):
            with contextlib.suppress(OSError):
                held.enter_context(socket.create_server(("127.0.0.1", port)))
                ports.append(port)
            if len(ports) == 2:
                return ports[0], ports[1]
    raise RuntimeError("no two free ports among 200")
