"""bound and predicting: a Module's graph at any number of rows gives what its own predict gives."""

from __future__ import annotations

import gc
import os

import mxnet as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mms_handler import models
from mms_handler.errors import BadInput
from mms_handler.models import arrays
from mms_handler.models.graphs import executors, graph
from mms_handler.models.graphs.executors import Executors
from mms_handler.models.predictor import BlockPredictor, ModulePredictor

DATA = mx.sym.var("data")


def bind(symbol, *shapes, params=None):
    """A Module bound to shapes of its inputs; its parameters are ones, but for ``params``."""
    names = [name for name, _ in shapes]
    module = mx.mod.Module(symbol, data_names=names, label_names=None)
    module.bind(data_shapes=list(shapes), for_training=False)
    sizes, _, states = symbol.infer_shape(**dict(shapes))
    arguments = {
        name: mx.nd.ones(size)
        for name, size in zip(symbol.list_arguments(), sizes)
        if not name.endswith("label")
    }
    variances = {
        name: mx.nd.ones(size) for name, size in zip(symbol.list_auxiliary_states(), states)
    }
    module.init_params(None, {**arguments, **(params or {})}, variances, allow_missing=True)
    return module


def dense(rows=1):
    """y = x0 + x1 + 1, and the relu of it."""
    made = mx.sym.relu(mx.sym.FullyConnected(DATA, num_hidden=1, name="fc"))
    return bind(made, ("data", (rows, 2)))


def convolution(rows=1):
    """Convolution, batch norm and clip, of pictures large enough that one fills a forward."""
    made = mx.sym.Convolution(DATA, kernel=(3, 3), num_filter=8, name="conv")
    made = mx.sym.clip(mx.sym.BatchNorm(made, name="bn"), 0, 6)
    made = mx.sym.flatten(mx.sym.Pooling(made, global_pool=True, pool_type="avg"))
    return bind(made, ("data", (rows, 3, 400, 400)))


def predicted(module, rows):
    """What the default predict_fn gives for rows."""
    predictor = ModulePredictor(module)
    data = predictor.arrays(np.array(rows, np.float32))
    return predictor, models.to_plain(predictor(data))


# --- the fast path ---


@pytest.mark.parametrize("saved", [1, 4], ids=["bound to one", "bound to four"])
@pytest.mark.parametrize("rows", [1, 3, 4, 100])
def test_one_forward_of_as_many_rows_as_came(saved, rows):
    """Neither padded to what the Module was bound to, nor cut into it."""
    predictor, found = predicted(dense(saved), [[i, 1] for i in range(rows)])
    assert found.tolist() == [[2.0 + i] for i in range(rows)]
    assert list(predictor._executors._bound)[-1] == ((rows, 2),)
    assert predictor.shared is True


def test_rows_beyond_the_cache_are_other_forwards(monkeypatch):
    """Ten thousand rows do not take ten thousand rows' memory."""
    monkeypatch.setattr(graph, "CPU_BYTES", 2 * 2 * 4 * 3_000)  # two values a row, in and out
    predictor, found = predicted(dense(), [[i, 0] for i in range(10_000)])
    assert found.ravel().tolist() == [i + 1.0 for i in range(10_000)]
    assert {shape[0] for (shape,) in predictor._executors._bound} == {1, 2, 3_000, 1_000}


def test_a_picture_that_fills_the_cache_goes_alone():
    """Convolutions gain nothing from more rows, so they are not bound to any."""
    photos = np.random.RandomState(0).rand(3, 3, 400, 400).astype(np.float32)
    module = convolution()
    predictor, found = predicted(module, photos)
    assert list(predictor._executors._bound) == [((1, 3, 400, 400),)]
    wanted = models.predict(module, models.to_data(photos, module)).asnumpy()
    assert np.allclose(found, wanted, rtol=1e-5)
    assert predictor.shared is True


def test_what_is_returned_is_the_callers():
    """The next request's forward writes to other memory."""
    predictor = ModulePredictor(dense())
    first = predictor(predictor.arrays(np.ones((1, 2), np.float32)))
    second = predictor(predictor.arrays(np.zeros((1, 2), np.float32)))
    assert (first.tolist(), second.tolist()) == ([[3.0]], [[1.0]])
    assert not np.shares_memory(first, second)


def test_the_body_may_go_when_it_was_read():
    """A forward works on a copy in the executor: what is done to the body later does not matter."""
    predictor = ModulePredictor(dense())
    body = np.ones((1, 2), np.float32)
    found = predictor(predictor.arrays(body))
    body[:] = 9
    assert found.tolist() == [[3.0]]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=6), st.sampled_from([1, 3, 8]))
def test_the_same_as_the_modules_own_predict(counts, saved):
    """Whatever numbers of rows come, in whatever order, the values are those of module.predict."""
    module = dense(saved)
    predictor = ModulePredictor(module)
    for count in counts:
        rows = np.arange(2 * count, dtype=np.float32).reshape(-1, 2)
        own = models.predict(module, models.to_data(rows, module)).asnumpy()
        assert predictor(predictor.arrays(rows)).tolist() == own.tolist()


def test_several_outputs_and_inputs():
    """Each output has all rows; inputs go by name, in whatever order the body has them."""
    left, right = mx.sym.var("left"), mx.sym.var("right")
    both = mx.sym.Group([left - right, left + right])
    predictor = ModulePredictor(bind(both, ("left", (1, 1)), ("right", (1, 1))))
    value = {"right": np.array([[1], [2]]), "left": np.array([[5], [9]])}
    less, more = predictor(predictor.arrays(value))
    assert (less.tolist(), more.tolist()) == ([[4.0], [7.0]], [[6.0], [11.0]])
    assert list(predictor._executors._bound)[-1] == ((2, 1), (2, 1))


def test_a_label_is_no_hindrance():
    """A symbol with a loss, which has a label for each row, is bound to any number of rows."""
    line = mx.sym.FullyConnected(DATA, num_hidden=1, name="fc")
    loss = mx.sym.LinearRegressionOutput(line, mx.sym.var("out_label"), name="out")
    predictor, found = predicted(bind(loss, ("data", (4, 1))), [[1], [2], [3], [4], [5]])
    assert found.tolist() == [[2.0], [3.0], [4.0], [5.0], [6.0]]
    assert list(predictor._executors._bound)[-1] == ((5, 1),)


def test_first_states_of_zeros_grow_with_the_rows():
    """A recurrent net's first state, zeros of as many rows as it was bound to, is no hindrance."""
    state = mx.sym.var("state")
    module = bind(DATA + state, ("data", (4, 1)), params={"state": mx.nd.zeros((4, 1))})
    predictor, found = predicted(module, [[1], [2]])
    assert found.tolist() == [[1.0], [2.0]]
    assert predictor._executors is not None


def test_auxiliary_states_are_used():
    """A batch norm's moving averages, at any number of rows: (x - mean) / deviation + 1."""
    module = bind(mx.sym.BatchNorm(DATA, name="bn", eps=0), ("data", (1, 1)))
    mean, var = mx.nd.array([10]), mx.nd.array([4])
    module.set_params(module.get_params()[0], {"bn_moving_mean": mean, "bn_moving_var": var})
    predictor, found = predicted(module, [[10], [14], [8]])
    assert found.tolist() == [[1.0], [3.0], [0.0]]
    assert predictor._executors.max_rows > 1


@pytest.mark.parametrize("width", [2, 3])
def test_a_module_without_shapes_is_bound_to_what_comes(tmp_path, width):
    """Samples of any shape, each with an executor of its own."""
    total = mx.sym.broadcast_add(
        mx.sym.sum(DATA, axis=1, keepdims=True), mx.sym.var("one", shape=(1, 1))
    )
    mx.model.save_checkpoint(str(tmp_path / "net"), 0, total, {"one": mx.nd.ones((1, 1))}, {})
    predictor = ModulePredictor(models.load(tmp_path, 1, mx.cpu()))
    for rows in (1, 2, 5, 1):
        found = predictor(predictor.arrays(np.ones((rows, width), np.float32)))
        assert found.tolist() == [[width + 1.0]] * rows
    assert list(predictor._executors._bound) == [((n, width),) for n in (2, 5, 1)]
    assert predictor.shared is None


def test_a_module_without_shapes_takes_many_rows_in_turns(tmp_path, monkeypatch):
    """If they may be cut, which is seen by two of them."""
    monkeypatch.setattr(graph, "CPU_BYTES", 2 * 2 * 4 * 10)
    dense().save_checkpoint(str(tmp_path / "net"), 0)
    predictor = ModulePredictor(models.load(tmp_path, 1, mx.cpu()))
    found = predictor(predictor.arrays(np.ones((25, 2), np.float32)))
    assert found.tolist() == [[3.0]] * 25
    assert {shape[0] for (shape,) in predictor._executors._bound} == {1, 2, 10, 5}


# --- what must stay as it is ---


def centred(rows):
    """Rows less their mean: what a row gives depends on those beside it."""
    return bind(
        mx.sym.broadcast_sub(DATA, mx.sym.mean(DATA, axis=0, keepdims=True)), ("data", (rows, 1))
    )


def test_rows_that_meet_stay_alone_where_they_were():
    """Bound to one row, such a Module gives each row what it gives alone."""
    module = centred(1)
    predictor, found = predicted(module, [[1], [5]])
    assert found.tolist() == [[0.0], [0.0]]
    assert predictor._executors.max_rows == 1


def test_rows_that_meet_meet_those_they_were_bound_with():
    """Bound to two rows, such a Module is run two rows at a time, by its own predict."""
    predictor, found = predicted(centred(2), [[1], [5], [10], [20]])
    assert found.tolist() == [[-2.0], [2.0], [-5.0], [5.0]]
    assert (predictor._executors, predictor.shared) == (None, False)


def test_rows_fixed_in_the_symbol():
    """A symbol that says how many rows there are is run with as many."""
    fixed = mx.sym.reshape(mx.sym.reshape(DATA, shape=(8,)), shape=(4, 2)) * 2
    predictor, found = predicted(bind(fixed, ("data", (4, 2))), [[i, i] for i in range(6)])
    assert found.tolist() == [[2.0 * i, 2.0 * i] for i in range(6)]
    assert predictor._executors is None


def test_a_parameter_of_as_many_rows():
    """A parameter with a value for each row is for as many rows only."""
    offset = mx.sym.var("offset", shape=(2, 1))
    values = {"offset": mx.nd.array([[10], [20]])}
    predictor, found = predicted(
        bind(DATA + offset, ("data", (2, 1)), params=values), [[1], [2], [3]]
    )
    assert found.tolist() == [[11.0], [22.0], [13.0]]
    assert predictor._executors is None


def test_outputs_of_other_numbers_of_rows():
    """A Module that gives two rows for each, steps of time say, gives them in order; none share."""
    steps = bind(mx.sym.reshape(DATA, shape=(-1, 1)), ("data", (1, 2)))
    predictor, found = predicted(steps, [[1, 2], [3, 4]])
    assert found.tolist() == [[1.0], [2.0], [3.0], [4.0]]
    assert predictor.shared is False


class Own(mx.mod.Module):
    """A Module of a script's own."""

    def predict(self, data, *args, **kwargs):
        return super().predict(data, *args, **kwargs) + 100


def replaced():
    module = dense()
    own = module.predict
    module.predict = lambda data: own(data) + 100
    return module


def subclass():
    module = dense()
    module.__class__ = Own
    return module


@pytest.mark.parametrize("made", [replaced, subclass])
def test_a_predict_of_the_scripts_own_is_called(made):
    """What a script put in the place of module.predict is the model's."""
    predictor, found = predicted(made(), [[1, 1]])
    assert found.tolist() == [[103.0]]
    assert predictor._executors is None


def test_other_modules_and_states_of_a_module():
    """One that was bound for training, and one that is no plain Module, keep their own predict."""
    training = mx.mod.Module(mx.sym.FullyConnected(DATA, num_hidden=1), label_names=None)
    training.bind([("data", (1, 2))], for_training=True)
    training.init_params(mx.init.One())
    predictor, found = predicted(training, [[1, 1]])
    assert found.tolist() == [[2.0]]
    assert predictor._executors is None

    def symbol(key):
        return mx.sym.FullyConnected(DATA, num_hidden=1, name="fc"), ["data"], None

    bucketing = mx.mod.BucketingModule(symbol, default_bucket_key=1)
    bucketing.bind([("data", (1, 2))], for_training=False)
    assert ModulePredictor(bucketing)._executors is None


def test_a_data_iter_of_the_scripts_own_is_predicted():
    """What is no array goes to module.predict as it is."""
    module = dense()
    data = mx.io.NDArrayIter(mx.nd.ones((2, 2)), batch_size=1)
    predictor = ModulePredictor(module)
    assert predictor(predictor.arrays(data)).asnumpy().tolist() == [[3.0], [3.0]]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        pytest.param(np.ones((2, 3)), r"takes shape \(N, 2\), the body has \(2, 3\)", id="wide"),
        pytest.param(np.ones((0, 2)), r"takes shape \(N, 2\), the body has \(0, 2\)", id="none"),
    ],
)
def test_what_does_not_fit(value, message):
    """Said before anything is run: whose fault it is, what came and what was wanted."""
    with pytest.raises(BadInput, match=message):
        ModulePredictor(dense()).arrays(value)


# --- memory ---


def resident():
    """Megabytes of this process."""
    gc.collect()
    with open("/proc/self/statm") as pages:
        return int(pages.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def test_ten_sizes_do_not_hold_ten_copies_of_the_weights():
    """Of weights of 64 MB: a fused executor would copy them, so they are not fused."""
    hidden = mx.sym.FullyConnected(DATA, num_hidden=4096, name="fc", no_bias=True)
    module = bind(mx.sym.relu(hidden), ("data", (1, 4096)))
    predictor = ModulePredictor(module)
    predictor(predictor.arrays(np.ones((1, 4096), np.float32)))
    before = resident()
    for rows in range(1, 11):
        found = predictor(predictor.arrays(np.ones((rows, 4096), np.float32)))
        assert found.tolist() == [[4096.0] * 4096] * rows
    assert len(predictor._executors._bound) >= 10
    assert resident() - before < 64


def test_the_oldest_executors_go(monkeypatch):
    """Beyond what may be held, the one that was not used for longest goes first."""
    monkeypatch.setattr(executors, "KEPT_BYTES", 2 * 8 * (3 + 1 + 4))
    predictor = ModulePredictor(dense())
    rows = Executors(predictor._executors.graph, fused=False)
    for count in (1, 2, 3, 1, 4):
        rows([np.ones((count, 2), np.float32)])
    assert [shape[0] for (shape,) in rows._bound] == [3, 1, 4]


def test_large_weights_are_loaded_once(tmp_path):
    """Module.bind would make them thrice: the file's, its own, the executor's."""
    hidden = mx.sym.FullyConnected(DATA, num_hidden=4096, name="fc", no_bias=True)
    models.save(bind(hidden, ("data", (1, 4096))), tmp_path)
    gc.collect()
    before = resident()
    module = models.load(tmp_path, 1, mx.cpu())
    assert resident() - before < 1.3 * 64
    arguments, _ = module.get_params()
    assert arguments["fc_weight"].asnumpy().all()


def test_a_loaded_module_is_a_module_in_every_way(tmp_path, sums):
    """Scripts forward, rebind, reshape and set parameters as they always did."""
    models.save(sums(bound=4), tmp_path)
    module = models.load(tmp_path, 1, mx.cpu())
    module.forward(mx.io.DataBatch([mx.nd.array([[1, 2]])]), is_train=False)
    assert module.get_outputs()[0].asnumpy().tolist() == [[15.0]]
    module.reshape([("data", (2, 2))])
    module.forward(mx.io.DataBatch([mx.nd.array([[1, 2], [0, 0]])]), is_train=False)
    assert module.get_outputs()[0].asnumpy().tolist() == [[15.0], [10.0]]
    arguments, states = module.get_params()
    module.set_params({**arguments, "fc_bias": mx.nd.array([20])}, states)
    module.forward(mx.io.DataBatch([mx.nd.array([[1, 2], [0, 0]])]), is_train=False)
    assert module.get_outputs()[0].asnumpy().tolist() == [[25.0], [20.0]]
    module.bind([("data", (3, 2))], for_training=False, force_rebind=True)
    assert module.predict(mx.nd.zeros((3, 2))).asnumpy().tolist() == [[20.0]] * 3


def test_parameters_of_another_type_are_those_the_symbol_computes_in(tmp_path, sums):
    """As set_params did, which copied them into what was bound."""
    models.save(sums(), tmp_path)
    halves = mx.nd.load(str(tmp_path / "model-0000.params"))
    stored = {name: one.astype("float64") for name, one in halves.items()}
    mx.nd.save(str(tmp_path / "model-0000.params"), stored)
    module = models.load(tmp_path, 1, mx.cpu())
    assert module.predict(mx.nd.array([[1, 2]])).asnumpy().tolist() == [[15.0]]


def test_an_input_of_another_type(tmp_path):
    """A symbol that says what its input is made of is bound to that."""
    doubles = mx.sym.FullyConnected(mx.sym.var("data", dtype="float64"), num_hidden=1, name="fc")
    values = {"fc_weight": mx.nd.array([[1, 2]]), "fc_bias": mx.nd.array([10])}
    mx.model.save_checkpoint(str(tmp_path / "model"), 0, doubles, values, {})
    (tmp_path / "model-shapes.json").write_text('[{"name": "data", "shape": [1, 2]}]')
    _, found = predicted(models.load(tmp_path, 1, mx.cpu()), [[1, 1], [2, 3]])
    assert (found.dtype, found.tolist()) == (np.float64, [[13.0], [18.0]])


def test_rows_fixed_in_a_saved_symbol(tmp_path):
    """They are loaded as they were saved, where the setting says so."""
    fixed = mx.sym.reshape(mx.sym.reshape(DATA, shape=(8,)), shape=(4, 2)) * 2
    mx.model.save_checkpoint(str(tmp_path / "model"), 0, fixed, {}, {})
    (tmp_path / "model-shapes.json").write_text('[{"name": "data", "shape": [4, 2]}]')
    _, found = predicted(models.load(tmp_path, 0, mx.cpu()), [[i, i] for i in range(6)])
    assert found.tolist() == [[2.0 * i, 2.0 * i] for i in range(6)]


# --- lent memory ---


def test_a_lent_body_lives_as_long_as_mxnet_has_it():
    """The buffer cannot be freed or resized while an NDArray is on it, and can be afterwards."""
    body = bytearray(np.arange(2**15, dtype=np.float32).tobytes())
    array = arrays.as_ndarray(np.frombuffer(body, np.float32).reshape(2, 2**14), mx.cpu())
    gc.collect()
    with pytest.raises(BufferError):
        body.clear()
    assert array.asnumpy()[:, -1].tolist() == [2**14 - 1, 2**15 - 1]
    del array
    gc.collect()
    mx.nd.waitall()
    body.clear()


def test_a_small_body_is_copied():
    """That takes less time; the buffer is free at once."""
    body = bytearray(np.arange(6, dtype=np.float32).tobytes())
    array = arrays.as_ndarray(np.frombuffer(body, np.float32).reshape(3, 2), mx.cpu())
    gc.collect()
    body.clear()
    assert array.asnumpy().tolist() == [[0, 1], [2, 3], [4, 5]]


def test_a_freed_body_is_not_overwritten_under_a_forward():
    """What is computed of a body that nobody else holds is right, whatever takes new memory."""
    wanted = np.arange(2**16, dtype=np.float32)
    for _ in range(10):
        array = arrays.as_ndarray(np.frombuffer(wanted.tobytes(), np.float32), mx.cpu())
        result = mx.nd.broadcast_add(array, mx.nd.ones((1,)))
        del array
        gc.collect()
        junk = [np.full(2**16, -1, np.float32) for _ in range(4)]
        assert (result.asnumpy() == wanted + 1).all()
        del junk


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(np.arange(4.0).reshape(2, 2), id="doubles"),
        pytest.param(np.arange(4, dtype=np.float32).reshape(2, 2).T.copy().T, id="by columns"),
        pytest.param(np.arange(4, dtype=">f4").reshape(2, 2), id="of another byte order"),
        pytest.param(np.arange(4, dtype=np.int8).reshape(2, 2), id="bytes"),
    ],
)
def test_what_cannot_be_lent_is_copied(value):
    """Values a client sends become float32, row by row."""
    array = arrays.as_ndarray(value, mx.cpu())
    assert (array.dtype, array.asnumpy().tolist()) == (np.float32, [[0, 1], [2, 3]])


@pytest.mark.parametrize("plain", [False, True])
def test_a_blocks_arrays(sum_block, plain):
    """A Block's predictor lends a body, by name where there are several."""
    predictor = BlockPredictor(sum_block, mx.cpu(), plain)
    body = np.array([[1, 1], [2, 3]], np.float32)
    for one in (body, {"any": body}):
        found = predictor(predictor.arrays(predictor.take(one)))
        assert isinstance(found, np.ndarray if plain else mx.nd.NDArray)
        assert models.to_plain(found).tolist() == [[13.0], [18.0]]


def test_what_a_script_read_is_not_lent():
    """Its input_fn may keep the array; a Block may write to its input."""
    kept = np.array([[1, 2]], np.float32)
    predictor = BlockPredictor(Erasing(), mx.cpu(), plain=True)
    assert predictor(predictor.arrays(kept)).tolist() == [[1, 2]]
    kept += 1
    assert kept.tolist() == [[2, 3]]


class Erasing(mx.gluon.Block):
    def forward(self, x):
        seen = x.copy()
        x[:] = 0
        return seen
