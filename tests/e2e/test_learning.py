"""A folder without a sample: requests that succeed make its model faster, and none suffers."""

from __future__ import annotations

import io
import os
import re
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from running_mms import Serving, free_ports, wait_for

#: MXNet fuses none of its Block's operators; fused it is three times as fast.
SCRIPT = """
import os
import mxnet as mx

def model_fn(model_dir):
    mx.random.seed(0)
    net = mx.gluon.nn.HybridSequential()
    for channels in (32, 64, 64, 64):
        net.add(mx.gluon.nn.Conv2D(channels, 3, padding=1))
        net.add(mx.gluon.nn.BatchNorm())
        net.add(mx.gluon.nn.HybridLambda(lambda F, x: F.clip(x, 0, 6)))
    net.add(mx.gluon.nn.GlobalAvgPool2D(), mx.gluon.nn.Dense(10))
    net.initialize(mx.init.Xavier())
    net(mx.nd.zeros((1, 3, 48, 48)))
    return net
"""

NPY = "application/x-npy"

LEARNED = r"no sample was packed: learned from a request; predictions are \d+\.\d times as fast"


def photo(seed: int = 0) -> bytes:
    out = io.BytesIO()
    np.save(out, np.random.RandomState(seed).rand(1, 3, 48, 48).astype(np.float32))
    return out.getvalue()


def ask(serving: Serving, body: bytes) -> np.ndarray:
    answer = serving.ask("net", body, content_type=NPY, accept=NPY)
    assert answer.status == 200, answer
    return np.load(io.BytesIO(answer.body))


@pytest.fixture
def served(tmp_path):
    """Serve a script as a folder, as ``serve`` would with these words."""

    def serve(script: str, *words: str, **env: str) -> Serving:
        (tmp_path / "net" / "code").mkdir(parents=True)
        (tmp_path / "net" / "code" / "inference.py").write_text(script)
        environment = {**os.environ, **env}
        options = ("--restarts", "100", *words)
        return Serving(
            free_ports(), tmp_path / "net", *options, env=environment, log=tmp_path / "log"
        )

    def lines(pattern: str) -> list[str]:
        return re.findall(pattern, (tmp_path / "log").read_text())

    serve.lines = lines
    return serve


def test_under_load(served):
    """No request is lost, none is answered otherwise, and both workers learn, and a third."""
    bodies = [photo(seed) for seed in range(4)]
    with served(SCRIPT, "--workers", "2") as serving, ThreadPoolExecutor(4) as pool:
        before = [ask(serving, body) for body in bodies]
        enough = threading.Event()

        def send(number: int) -> int:
            count = 0
            while not enough.is_set():
                values = ask(serving, bodies[number])
                np.testing.assert_allclose(values, before[number], 1e-3, 1e-5)
                count += 1
            return count

        results = [pool.submit(send, number) for number in range(4)]
        try:
            wait_for(lambda: len(served.lines(LEARNED)) == 2 or any(r.done() for r in results), 60)
        finally:
            enough.set()
        assert all(result.result() > 0 for result in results)
        assert len(served.lines("faster ways are tried with a request that succeeded")) == 1
        serving.of_model("net")[1][-1].kill()
        wait_for(lambda: len(served.lines(LEARNED)) == 3, 60)
        for body, values in zip(bodies, before):
            np.testing.assert_allclose(ask(serving, body), values, 1e-3, 1e-5)


#: Ends a process that calls the net after the one that it was forked from has done so.
DYING = (
    SCRIPT
    + """
class Dying(mx.gluon.HybridBlock):
    def __init__(self, net):
        super().__init__()
        self.net, self.process = net, None

    def hybrid_forward(self, F, x):
        self.process = self.process or os.getpid()
        if os.getpid() != self.process:
            os.abort()
        return self.net(x)

make = model_fn

def model_fn(model_dir):
    return Dying(make(model_dir))
"""
)


def test_a_model_that_ends_the_process_that_tries(served):
    """Its requests do not notice, and it is not tried again."""
    with served(DYING, "--workers", "1") as serving:
        before = ask(serving, photo())
        ended = "the process that tried ended before it was done .SIGABRT."
        wait_for(lambda: ask(serving, photo()) is not None and served.lines(ended), 30)
        for _ in range(10):
            np.testing.assert_array_equal(ask(serving, photo()), before)
        assert len(served.lines("faster ways are tried")) == 1
        assert not served.lines("Worker died")


def test_a_worker_with_two_threads(served):
    """A fork lacks OpenMP's threads, and must not wait for them."""
    with served(SCRIPT, "--workers", "1", "--threads", "2") as serving:
        before = ask(serving, photo())
        wait_for(lambda: ask(serving, photo()) is not None and served.lines(LEARNED), 50)
        np.testing.assert_allclose(ask(serving, photo()), before, 1e-3, 1e-5)


def test_switched_off(served):
    with served(SCRIPT, "--workers", "1", MMS_HANDLER_OPTIMIZE="off") as serving:
        before = ask(serving, photo())
        np.testing.assert_array_equal(ask(serving, photo()), before)
        assert not served.lines("no sample was packed")
