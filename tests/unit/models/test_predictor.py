"""predictor: the default predict_fn gives what module.predict and block(array) give."""

from __future__ import annotations

import mxnet as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import DATA, bind, dense, predicted

from mms_handler import models
from mms_handler.errors import BadInput
from mms_handler.models.graphs.graph import Graph
from mms_handler.models.predictor import BlockPredictor, ModulePredictor, executors_of

# --- Modules --------------------------------------------------------------------------------


@pytest.mark.parametrize("saved", [1, 4], ids=["bound to one", "bound to four"])
@pytest.mark.parametrize("rows", [1, 3, 4, 100])
def test_one_forward_of_as_many_rows_as_came(saved, rows):
    """Rows are neither padded to the size the Module was bound to, nor cut into it."""
    predictor, prediction = predicted(dense(saved), [[i, 1] for i in range(rows)])
    assert prediction.tolist() == [[2.0 + i] for i in range(rows)]
    assert list(predictor._executors._bound)[-1] == ((rows, 2),)
    assert predictor.shared is True


def test_a_module_runs_unfused_as_another_process_has_found():
    predictor = ModulePredictor(dense(4))
    before = predictor._executors
    predictor.unfuse()
    assert predictor._executors is not before
    assert (predictor._executors.fused, predictor._executors.max_rows) == (False, before.max_rows)
    assert predictor(predictor.arrays(np.ones((1, 2), np.float32))).tolist() == [[3.0]]


def test_what_is_returned_is_the_callers():
    """The next request's forward writes to other memory."""
    predictor = ModulePredictor(dense())
    first = predictor(predictor.arrays(np.ones((1, 2), np.float32)))
    second = predictor(predictor.arrays(np.zeros((1, 2), np.float32)))
    assert (first.tolist(), second.tolist()) == ([[3.0]], [[1.0]])
    assert not np.shares_memory(first, second)


def test_a_body_may_change_after_it_was_read():
    """A forward works on a copy in the executor."""
    predictor = ModulePredictor(dense())
    body = np.ones((1, 2), np.float32)
    prediction = predictor(predictor.arrays(body))
    body[:] = 9
    assert prediction.tolist() == [[3.0]]


@settings(max_examples=30)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=6), st.sampled_from([1, 3, 8]))
def test_the_same_as_the_modules_own_predict(counts, saved):
    """For any numbers of rows in any order, the values are those of module.predict."""
    module = dense(saved)
    predictor = ModulePredictor(module)
    for count in counts:
        rows = np.arange(2 * count, dtype=np.float32).reshape(-1, 2)
        expected = models.predict(module, models.to_data(rows, module)).asnumpy()
        assert predictor(predictor.arrays(rows)).tolist() == expected.tolist()


def test_an_error_that_is_not_the_bodys(monkeypatch):
    """Is MXNet's own."""
    predictor = ModulePredictor(dense())

    def run(arrays):
        raise mx.base.MXNetError("out of memory")

    monkeypatch.setattr(predictor, "_run", run)
    with pytest.raises(mx.base.MXNetError, match="out of memory"):
        predictor(predictor.arrays(np.ones((1, 2), np.float32)))


def test_what_worked_is_known():
    """The shapes of calls that worked are what a later failure is compared with."""
    predictor = ModulePredictor(dense())
    for rows in (1, 3):
        predictor(predictor.arrays(np.ones((rows, 2), np.float32)))
    assert predictor._expected._worked == ((None, 2),)


@pytest.mark.parametrize(
    ("shape", "fitted"), [((1, 2), (1, 2)), ((3, 1, 2), (3, 2)), ((2,), (1, 2))]
)
def test_a_bodys_array_gets_the_shape_of_the_input(shape, fitted):
    """Later ones of its shape do so without another look at the Module; nothing is copied."""
    predictor = ModulePredictor(dense())
    for _ in range(2):
        array = np.ones(shape, np.float32)
        (taken,) = predictor.arrays(predictor.take(array))
        assert (taken.shape, np.shares_memory(taken, array)) == (fitted, True)
    assert predictor._fitted == {shape: fitted}
    for _ in range(2):
        with pytest.raises(BadInput, match=r"^the model takes \(N, 2\), the body has \(1, 3\)$"):
            predictor.take(np.ones((1, 3), np.float32))


def test_several_outputs_and_inputs():
    """Each output has all rows.  Inputs go by name, in any order in the body."""
    left, right = mx.sym.var("left"), mx.sym.var("right")
    both = mx.sym.Group([left - right, left + right])
    predictor = ModulePredictor(bind(both, ("left", (1, 1)), ("right", (1, 1))))
    value = {"right": np.array([[1], [2]]), "left": np.array([[5], [9]])}
    less, more = predictor(predictor.arrays(value))
    assert (less.tolist(), more.tolist()) == ([[4.0], [7.0]], [[6.0], [11.0]])
    assert list(predictor._executors._bound)[-1] == ((2, 1), (2, 1))


@pytest.mark.parametrize("width", [2, 3])
def test_a_module_without_shapes_is_bound_to_what_comes(tmp_path, width):
    """Samples may have any shape; each shape has its own executor."""
    total = mx.sym.broadcast_add(
        mx.sym.sum(DATA, axis=1, keepdims=True), mx.sym.var("one", shape=(1, 1))
    )
    mx.model.save_checkpoint(str(tmp_path / "net"), 0, total, {"one": mx.nd.ones((1, 1))}, {})
    predictor = ModulePredictor(models.load(tmp_path, 1, mx.cpu()))
    for rows in (1, 2, 5, 1):
        prediction = predictor(predictor.arrays(np.ones((rows, width), np.float32)))
        assert prediction.tolist() == [[width + 1.0]] * rows
    assert list(predictor._executors._bound) == [((n, width),) for n in (2, 5, 1)]
    assert predictor.shared is None


def centred(rows):
    """A Module of rows less their mean: each row depends on the others."""
    return bind(
        mx.sym.broadcast_sub(DATA, mx.sym.mean(DATA, axis=0, keepdims=True)), ("data", (rows, 1))
    )


def test_dependent_rows_bound_to_one_run_alone():
    """Bound to one row, such a Module gives each row what it gives alone."""
    module = centred(1)
    predictor, prediction = predicted(module, [[1], [5]])
    assert prediction.tolist() == [[0.0], [0.0]]
    assert predictor._executors.max_rows == 1


@pytest.mark.parametrize(
    ("build", "most", "max_rows", "shared"),
    [(dense, 1, 1, True), (dense, 2, 2, True), (centred, 2, 1, True), (centred, 1, 1, True)],
)
def test_a_module_bound_to_one_row(monkeypatch, build, most, max_rows, shared):
    """As many rows are run at once as fit, if they are independent; else one."""
    monkeypatch.setattr(Graph, "max_rows", lambda self, shapes: most)
    executors, may_share = executors_of(build(1))
    assert (executors.max_rows, may_share) == (max_rows, shared)


@pytest.mark.parametrize("most", [1, 2])
def test_a_module_bound_to_two_rows(monkeypatch, most):
    """It may mix them, unless rows were seen to be independent; of one row at once, too."""
    monkeypatch.setattr(Graph, "max_rows", lambda self, shapes: most)
    executors, may_share = executors_of(dense(2))
    assert (executors.max_rows, may_share) == (most, True)
    assert executors_of(centred(2)) == (None, False)


def test_dependent_rows_bound_to_two_run_by_twos():
    """Bound to two rows, such a Module is run two rows at a time, by its own predict."""
    predictor, prediction = predicted(centred(2), [[1], [5], [10], [20]])
    assert prediction.tolist() == [[-2.0], [2.0], [-5.0], [5.0]]
    assert (predictor._executors, predictor.shared) == (None, False)


def test_outputs_of_other_numbers_of_rows():
    """A Module may give two rows for each, such as time steps.  Requests then share no forward."""
    steps = bind(mx.sym.reshape(DATA, shape=(-1, 1)), ("data", (1, 2)))
    predictor, prediction = predicted(steps, [[1, 2], [3, 4]])
    assert prediction.tolist() == [[1.0], [2.0], [3.0], [4.0]]
    assert predictor.shared is False


# --- a Module's own predict -----------------------------------------------------------------


def test_rows_fixed_in_the_symbol():
    """A symbol that fixes the number of rows is run with that number."""
    fixed = mx.sym.reshape(mx.sym.reshape(DATA, shape=(8,)), shape=(4, 2)) * 2
    predictor, prediction = predicted(bind(fixed, ("data", (4, 2))), [[i, i] for i in range(6)])
    assert prediction.tolist() == [[2.0 * i, 2.0 * i] for i in range(6)]
    assert predictor._executors is None


def test_a_parameter_of_as_many_rows():
    """A parameter with a value for each row fixes the number of rows."""
    offset = mx.sym.var("offset", shape=(2, 1))
    values = {"offset": mx.nd.array([[10], [20]])}
    predictor, prediction = predicted(
        bind(DATA + offset, ("data", (2, 1)), params=values), [[1], [2], [3]]
    )
    assert prediction.tolist() == [[11.0], [22.0], [13.0]]
    assert predictor._executors is None


class Louder(mx.mod.Module):
    """A script's own Module class."""

    def predict(self, data, *args, **kwargs):
        return super().predict(data, *args, **kwargs) + 100


def replaced():
    module = dense()
    predict = module.predict
    module.predict = lambda data: predict(data) + 100
    return module


def subclass():
    module = dense()
    module.__class__ = Louder
    return module


@pytest.mark.parametrize("build", [replaced, subclass])
def test_a_scripts_own_predict_is_called(build):
    """A script may replace module.predict, or override it."""
    predictor, prediction = predicted(build(), [[1, 1]])
    assert prediction.tolist() == [[103.0]]
    assert predictor._executors is None


def test_other_modules_and_states_of_a_module():
    """A Module bound for training and a BucketingModule are run by their own predict."""
    training = mx.mod.Module(mx.sym.FullyConnected(DATA, num_hidden=1), label_names=None)
    training.bind([("data", (1, 2))], for_training=True)
    training.init_params(mx.init.One())
    predictor, prediction = predicted(training, [[1, 1]])
    assert prediction.tolist() == [[2.0]]
    assert predictor._executors is None

    def symbol(key):
        return mx.sym.FullyConnected(DATA, num_hidden=1, name="fc"), ["data"], None

    bucketing = mx.mod.BucketingModule(symbol, default_bucket_key=1)
    bucketing.bind([("data", (1, 2))], for_training=False)
    assert ModulePredictor(bucketing)._executors is None


def test_a_scripts_own_data_iter_is_predicted():
    """Data other than arrays go to module.predict as they are."""
    module = dense()
    data = mx.io.NDArrayIter(mx.nd.ones((2, 2)), batch_size=1)
    predictor = ModulePredictor(module)
    assert predictor(predictor.arrays(data)).asnumpy().tolist() == [[3.0], [3.0]]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        pytest.param(np.ones((2, 3)), r"takes \(N, 2\), the body has \(2, 3\)", id="wide"),
        pytest.param(np.ones((0, 2)), r"takes \(N, 2\), the body has \(0, 2\)", id="none"),
    ],
)
def test_arrays_that_do_not_fit(value, message):
    """Refused before anything is run: the message has what came and what was expected."""
    with pytest.raises(BadInput, match=message):
        ModulePredictor(dense()).arrays(value)


# --- Blocks ---------------------------------------------------------------------------------


def test_a_block_is_called_with_the_array(sum_block):
    """block(array), on the device of the Block."""
    array = models.to_ndarray(np.array([[1, 1], [2, 0]], np.float32), sum_block, mx.cpu())
    assert models.predict(sum_block, array).asnumpy().tolist() == [[13.0], [12.0]]


def test_a_block_that_takes_another_shape(sum_block):
    """It is the client's fault, though MXNet raises only when the result is read."""
    array = models.to_ndarray(np.zeros((1, 3), np.float32), sum_block, mx.cpu())
    with pytest.raises(BadInput, match=r"^the model does not take this body: ") as caught:
        models.predict(sum_block, array)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("plain", [False, True])
def test_a_blocks_arrays(sum_block, plain):
    """A decoded body is predicted, alone or by name."""
    predictor = BlockPredictor(sum_block, mx.cpu(), plain)
    body = np.array([[1, 1], [2, 3]], np.float32)
    for value in (body, {"any": body}):
        prediction = predictor(predictor.arrays(predictor.take(value)))
        assert isinstance(prediction, np.ndarray if plain else mx.nd.NDArray)
        assert models.to_plain(prediction).tolist() == [[13.0], [18.0]]


def test_a_scripts_array_is_copied():
    """Its input_fn may keep the array, and a Block may write to its input."""
    array = np.array([[1, 2]], np.float32)
    predictor = BlockPredictor(Erasing(), mx.cpu(), plain=True)
    assert predictor(predictor.arrays(array)).tolist() == [[1, 2]]
    array += 1
    assert array.tolist() == [[2, 3]]


class Erasing(mx.gluon.Block):
    def forward(self, x):
        copy = x.copy()
        x[:] = 0
        return copy


@pytest.mark.parametrize("plain", [True, False])
def test_outputs_in_a_structure(plain):
    """As a recurrent Block's states are: the structure stays, and what is no array, too."""

    class Recurrent(mx.gluon.Block):
        def forward(self, x):
            return x * 2, [x, {"state": x + 1}], "a text", None

    predictor = BlockPredictor(Recurrent(), mx.cpu(), plain)
    output, (first, named), *others = predictor(predictor.arrays(np.array([[1, 2]], np.float32)))
    arrays = [output, first, named["state"]]
    assert [type(array) for array in arrays] == [np.ndarray if plain else mx.nd.NDArray] * 3
    values = arrays if plain else [array.asnumpy() for array in arrays]
    assert [value.tolist() for value in values] == [[[2, 4]], [[1, 2]], [[2, 3]]]
    assert others == ["a text", None]


@pytest.mark.parametrize("plain", [True, False])
def test_what_goes_to_a_graph_as_it_is(sum_block, plain):
    """Decoded arrays, if nobody wants NDArrays; not what a script has made."""
    predict = BlockPredictor(sum_block, mx.cpu(), plain)
    arrays = predict.take(np.ones((2, 2), "f4"))
    assert predict.is_straight(arrays) is plain
    assert not predict.is_straight(np.ones((2, 2), "f4"))
    assert not predict.is_straight([np.ones((2, 2), "f4")])
    assert not predict.is_straight(type(arrays)([mx.nd.ones((2, 2))]))
    assert not predict.is_straight(type(arrays)([np.ones((2, 2), "f4"), mx.nd.ones((2, 2))]))
