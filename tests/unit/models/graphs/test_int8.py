"""int8: an archive's int8 graph takes a float graph's place where it is near and faster."""

from __future__ import annotations

import mxnet as mx
import numpy as np
import pytest

from mms_handler.errors import ModelError
from mms_handler.models.graphs import faster, int8
from mms_handler.models.graphs.checked import Checked
from mms_handler.models.graphs.executors import Executors
from mms_handler.models.graphs.graph import graph_of, of_module
from mms_handler.models.graphs.int8 import PackedInt8, checked_int8, try_int8
from mms_handler.models.graphs.quantize import quantize
from mms_handler.models.predictor import ModulePredictor


@pytest.fixture(autouse=True)
def any_speed(monkeypatch):
    """What is near is kept, however fast: times are not for tests."""
    monkeypatch.setattr(faster, "GAIN", 0)


@pytest.fixture
def dense():
    """A Dense of random weights."""
    mx.random.seed(0)
    net = mx.gluon.nn.HybridSequential()
    net.add(
        mx.gluon.nn.Dense(32, in_units=16, activation="relu"), mx.gluon.nn.Dense(4, in_units=32)
    )
    net.initialize(mx.init.Xavier())
    return net


def rows(count, seed=0, largest=1):
    return np.random.RandomState(seed).uniform(-largest, largest, (count, 16)).astype(np.float32)


def kept(model, arrays, path, most=0.1):
    """The int8 graph of a model as an archive has it."""
    quantize(graph_of(model, arrays), [[rows(4, seed)] for seed in range(6)]).symbol.save(str(path))
    return PackedInt8(path, most)


def off(one, other):
    return np.abs(one - other).max() / np.abs(other).max()


@pytest.fixture
def swapped(dense, tmp_path):
    """A Block that runs as its int8 graph; and what it gave before, for the same arrays."""
    arrays = [mx.nd.array(rows(1))]
    found = kept(dense, arrays, tmp_path / "int8.json")
    wanted = {count: dense(mx.nd.array(rows(count, 7))).asnumpy() for count in (1, 2, 5)}
    faster.try_graph(dense, arrays)
    try_int8(dense, arrays, found)
    assert dense.forward.checked.name == "int8 graph of the Block"
    return dense, wanted


def test_a_near_graph_takes_the_place_of_forward(swapped):
    """At any number of rows it gives nearly what the Block gave, and not the same."""
    block, wanted = swapped
    for count, one in wanted.items():
        assert 1e-5 < off(block(mx.nd.array(rows(count, 7))).asnumpy(), one) < 0.1


def test_rows_of_it_do_not_meet(swapped):
    """What is given together is given alone."""
    block, _ = swapped
    together = block(mx.nd.array(rows(3, 9))).asnumpy()
    alone = [block(mx.nd.array(rows(3, 9)[at : at + 1])).asnumpy() for at in range(3)]
    assert np.allclose(together, np.concatenate(alone), rtol=1e-5, atol=1e-6)


def test_new_parameters_are_compared_anew(swapped):
    """Their first prediction is the Block's; what the old ranges do not fit stays the Block's."""
    block, _ = swapped
    block[0].weight.set_data(block[0].weight.data() * 100)
    one = mx.nd.array(rows(1, 3))
    wanted = block.forward.block_forward(one).asnumpy()
    assert block(one).asnumpy().tolist() == wanted.tolist()
    assert block.forward.checked._agreed == {((16,),): False}
    assert off(block(one).asnumpy(), wanted) < 1e-5


def test_training_is_the_blocks(swapped):
    """And so is what it has learnt."""
    block, _ = swapped
    one = mx.nd.array(rows(1, 3))
    wanted = block.forward.block_forward(one).asnumpy()
    with mx.autograd.record():
        assert off(block(one).asnumpy(), wanted) < 1e-6
    assert block.forward.checked._agreed == {}


@pytest.mark.parametrize(
    ("most", "gain"), [(0, 0), (0.1, 1e9)], ids=["not near enough", "not fast enough"]
)
def test_what_does_not_do_is_not_used(dense, tmp_path, monkeypatch, most, gain):
    """The float graph stays, and the log says why."""
    monkeypatch.setattr(faster, "GAIN", gain)
    monkeypatch.setattr(int8, "MIN_DIFFERENCE", 1e-6)
    arrays = [mx.nd.array(rows(1))]
    try_int8(dense, arrays, kept(dense, arrays, tmp_path / "int8.json", most))
    assert "forward" not in vars(dense)


def test_weights_that_are_too_large(dense, tmp_path, monkeypatch):
    """As for fused float graphs, with a byte for each."""
    monkeypatch.setattr(int8, "COPIED_BYTES", 100)
    arrays = [mx.nd.array(rows(1))]
    try_int8(dense, arrays, kept(dense, arrays, tmp_path / "int8.json"))
    assert "forward" not in vars(dense)


def test_the_graph_of_another_model(dense, tmp_path):
    """Its parameters are not there."""
    symbol = mx.sym.FullyConnected(mx.sym.var("mms_handler_input0"), num_hidden=4, name="fc")
    symbol.save(str(tmp_path / "other.json"))
    with pytest.raises(ModelError, match="the int8 graph has a parameter 'fc_weight'"):
        try_int8(dense, [mx.nd.array(rows(1))], PackedInt8(tmp_path / "other.json", 0.1))


def test_near_is_twice_what_was_seen():
    """In parts of the largest value; one hundredth is always near, other shapes and NaN never."""
    wanted = np.array([[10.0, 0]])
    for most, shift, near in [(0.1, 1.9, True), (0.1, 2.5, False), (0, 0.09, True)]:
        assert PackedInt8(None, most).near([wanted], [wanted - [[shift, 0]]]) is near
    assert not PackedInt8(None, 0.1).near([wanted], [wanted[:, :1]])
    assert not PackedInt8(None, 0.1).near([wanted], [wanted * np.nan])


# --- Modules ---


@pytest.fixture
def wide():
    """A Module of 16 values to 4."""
    symbol = mx.sym.FullyConnected(mx.sym.var("data"), num_hidden=4, name="fc")
    built = mx.mod.Module(symbol, label_names=None)
    built.bind([("data", (1, 16))], for_training=False)
    mx.random.seed(0)
    built.init_params(mx.init.Xavier(magnitude=1))
    return built


def test_a_module_runs_as_its_int8_graph(wide, tmp_path):
    """By the default predict_fn, at any number of rows."""
    predictor = ModulePredictor(wide)
    found = kept(wide, [], tmp_path / "int8.json")
    wanted = predictor(predictor.arrays(rows(5, 7)))
    predictor.try_int8(predictor.arrays(rows(1)), found)
    assert 1e-5 < off(predictor(predictor.arrays(rows(5, 7))), wanted) < 0.1


def test_a_module_whose_graph_is_not_near(wide, tmp_path):
    """Values that never came before; a sample is asked first."""
    best = Executors(of_module(wide), 1)
    found = kept(wide, [], tmp_path / "int8.json")
    assert checked_int8(best, [rows(1, largest=1e4)], found) is best
    assert isinstance(checked_int8(best, [rows(1)], found), Checked)
