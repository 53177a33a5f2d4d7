"""executors: a graph gives the same at any number of rows, in bounded memory."""

from __future__ import annotations

import mxnet as mx
import numpy as np
import pytest
from tiny_models import DATA, bind, dense, predicted, resident

from mms_handler import models
from mms_handler.codecs import compiled
from mms_handler.models.graphs import executors, graph
from mms_handler.models.graphs.executors import Executors
from mms_handler.models.predictor import ModulePredictor


def convolution(rows=1):
    """Convolution, batch norm and clip, of images so large that one fills a forward."""
    y = mx.sym.Convolution(DATA, kernel=(3, 3), num_filter=8, name="conv")
    y = mx.sym.clip(mx.sym.BatchNorm(y, name="bn"), 0, 6)
    y = mx.sym.flatten(mx.sym.Pooling(y, global_pool=True, pool_type="avg"))
    return bind(y, ("data", (rows, 3, 400, 400)))


def test_rows_beyond_the_cache_are_other_forwards(monkeypatch):
    """Ten thousand rows do not take ten thousand rows' memory."""
    monkeypatch.setattr(graph, "CPU_BYTES", 2 * 2 * 4 * 3_000)  # two values a row, in and out
    predictor, prediction = predicted(dense(), [[i, 0] for i in range(10_000)])
    assert prediction.ravel().tolist() == [i + 1.0 for i in range(10_000)]
    assert {shape[0] for (shape,) in predictor._executors._bound} == {1, 2, 3_000, 1_000}


def test_an_image_that_fills_the_cache_goes_alone():
    """Convolutions gain nothing from more rows, so they are not bound to any."""
    photos = np.random.RandomState(0).rand(3, 3, 400, 400).astype(np.float32)
    module = convolution()
    predictor, prediction = predicted(module, photos)
    assert list(predictor._executors._bound) == [((1, 3, 400, 400),)]
    expected = models.predict(module, models.to_data(photos, module)).asnumpy()
    assert np.allclose(prediction, expected, rtol=1e-5)
    assert predictor.shared is True


def test_a_label_is_no_hindrance():
    """A symbol with a loss, which has a label for each row, is bound to any number of rows."""
    line = mx.sym.FullyConnected(DATA, num_hidden=1, name="fc")
    loss = mx.sym.LinearRegressionOutput(line, mx.sym.var("out_label"), name="out")
    predictor, prediction = predicted(bind(loss, ("data", (4, 1))), [[1], [2], [3], [4], [5]])
    assert prediction.tolist() == [[2.0], [3.0], [4.0], [5.0], [6.0]]
    assert list(predictor._executors._bound)[-1] == ((5, 1),)


def test_first_states_of_zeros_grow_with_the_rows():
    """A recurrent net's first state has zeros for as many rows as it was bound to; that is fine."""
    state = mx.sym.var("state")
    module = bind(DATA + state, ("data", (4, 1)), params={"state": mx.nd.zeros((4, 1))})
    predictor, prediction = predicted(module, [[1], [2]])
    assert prediction.tolist() == [[1.0], [2.0]]
    assert predictor._executors is not None


def test_auxiliary_states_are_used():
    """A batch norm's moving averages, at any number of rows: (x - mean) / deviation + 1."""
    module = bind(mx.sym.BatchNorm(DATA, name="bn", eps=0), ("data", (1, 1)))
    mean, var = mx.nd.array([10]), mx.nd.array([4])
    module.set_params(module.get_params()[0], {"bn_moving_mean": mean, "bn_moving_var": var})
    predictor, prediction = predicted(module, [[10], [14], [8]])
    assert prediction.tolist() == [[1.0], [3.0], [0.0]]
    assert predictor._executors.max_rows > 1


def test_a_module_without_shapes_takes_many_rows_in_turns(tmp_path, monkeypatch):
    """If its rows are independent, which two of them show."""
    monkeypatch.setattr(graph, "CPU_BYTES", 2 * 2 * 4 * 10)
    dense().save_checkpoint(str(tmp_path / "net"), 0)
    predictor = ModulePredictor(models.load(tmp_path, 1, mx.cpu()))
    prediction = predictor(predictor.arrays(np.ones((25, 2), np.float32)))
    assert prediction.tolist() == [[3.0]] * 25
    assert {shape[0] for (shape,) in predictor._executors._bound} == {1, 2, 10, 5}


# --- memory ---


def test_ten_sizes_do_not_hold_ten_copies_of_the_weights():
    """Of weights of 64 MB: fused executors would copy them, so they are not fused."""
    hidden = mx.sym.FullyConnected(DATA, num_hidden=4096, name="fc", no_bias=True)
    module = bind(mx.sym.relu(hidden), ("data", (1, 4096)))
    predictor = ModulePredictor(module)
    predictor(predictor.arrays(np.ones((1, 4096), np.float32)))
    megabytes = resident()
    for rows in range(1, 11):
        prediction = predictor(predictor.arrays(np.ones((rows, 4096), np.float32)))
        assert prediction.tolist() == [[4096.0] * 4096] * rows
    assert len(predictor._executors._bound) >= 10
    assert resident() - megabytes < 64


def test_the_oldest_executors_go(monkeypatch):
    """If memory runs short, the executor that was not used for longest goes first."""
    monkeypatch.setattr(executors, "KEPT_BYTES", 2 * 8 * (3 + 1 + 4))
    predictor = ModulePredictor(dense())
    rows = Executors(predictor._executors.graph, fused=False)
    for count in (1, 2, 3, 1, 4):
        rows([np.ones((count, 2), np.float32)])
    assert [shape[0] for (shape,) in rows._bound] == [3, 1, 4]


ARRAYS = [
    np.random.RandomState(0).randn(5, 3, 8, 8).astype(np.float32),
    np.random.RandomState(1).randn(1, 3, 8, 8),
    np.asfortranarray(np.random.RandomState(2).randn(4, 3, 8, 8).astype(np.float32)),
    np.float32(np.random.RandomState(3).randn(6, 3, 8, 8))[::2],
    np.full((2, 3, 8, 8), np.nan, np.float32),
]


@pytest.mark.parametrize("array", ARRAYS, ids=["plain", "double", "Fortran", "a view", "NaN"])
@pytest.mark.parametrize("outputs", [1, 2])
def test_the_core_runs_executors_as_mxnet_s_python_does(array, outputs, monkeypatch):
    """To the last bit; what it cannot read where it is, it leaves to MXNet's Python."""
    graph_of_module = graph.of_module(convolution())
    if outputs == 2:
        both = mx.sym.Group([graph_of_module.symbol, mx.sym.sum(DATA, axis=1)])
        graph_of_module = graph_of_module._replace(symbol=both)
    with_core = [Executors(graph_of_module)([array]) for _ in range(2)]
    monkeypatch.setattr(compiled, "core", None)
    without = Executors(graph_of_module)([array])
    for arrays in with_core:
        assert [a.shape for a in arrays] == [a.shape for a in without]
        assert [a.tobytes() for a in arrays] == [a.tobytes() for a in without]
        assert all(a.flags.writeable for a in arrays)


def test_outputs_are_the_caller_s_own():
    """The next call does not change them."""
    run = Executors(graph.of_module(dense()))
    first = run([np.float32([[1, 2]])])
    run([np.float32([[5, 6]])])
    assert first[0].tolist() == [[4.0]]
