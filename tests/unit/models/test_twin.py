"""twin: a session answers for the rows that were proved, in runs of few enough rows."""

from __future__ import annotations

import hashlib

import mxnet as mx
import numpy as np
import pytest
from tiny_models import DATA, bind

from mms_handler import models
from mms_handler.errors import ModelError
from mms_handler.manifest import TWIN
from mms_handler.models import twin
from mms_handler.models.arrays import Arrays
from mms_handler.models.graphs import faster
from mms_handler.models.twin import Session, near

WEIGHT = np.array([[1, 2], [3, 4], [5, 6]], np.float32)


def module():
    """Gives the relu of x times the transposed WEIGHT, plus 1."""
    symbol = mx.sym.relu(mx.sym.FullyConnected(DATA, num_hidden=3, name="fc"))
    return bind(symbol, ("data", (1, 2)), params={"fc_weight": mx.nd.array(WEIGHT)})


def rows(*values):
    return np.array(values, np.float32)


@pytest.fixture(scope="module")
def made():
    net = module()
    return models.make_twin(net, models.make_predictor(net, mx.cpu(), True), Arrays([rows([1, 2])]))


@pytest.fixture
def session(made):
    return Session(*made, threads=1)


def test_what_a_session_answers(session):
    """It is what NumPy computes."""
    (output,) = session([rows([1, 2], [-1, 0.25])])
    expected = np.maximum(rows([1, 2], [-1, 0.25]) @ WEIGHT.T + 1, 0)
    np.testing.assert_allclose(output, expected, 1e-6)
    output[0, 0] = 7  # the caller may change it
    assert session([rows([1, 2], [-1, 0.25])])[0][0, 0] == 6


@pytest.mark.parametrize("max_rows", [1, 2, 3, 100])
def test_many_rows_are_run_in_parts(made, max_rows):
    """No run has more rows than the entry allows."""
    session = Session(made[0]._replace(max_rows=max_rows), made[1], 1)
    run, counts = session._run, []
    session._run = lambda names, feeds: counts.append(len(feeds["data"])) or run(names, feeds)
    array = np.arange(14, dtype=np.float32).reshape(7, 2)
    (output,) = session([array])
    np.testing.assert_allclose(output, array @ WEIGHT.T + 1, 1e-6)
    assert sum(counts) == 7
    assert max(counts) == min(max_rows, 7)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38])
def test_numbers_that_are_not_finite(session, value):
    """Also in the output: 3e38 times 6 is more than a float32 holds."""
    with pytest.raises(ValueError, match="not all numbers are finite"):
        session([rows([value, value])])


def test_the_shapes_that_it_takes(session):
    assert session.takes([np.zeros((3, 2))])
    for shape in [(2,), (1, 3), (1, 2, 1)]:
        assert not session.takes([np.zeros(shape)])
    assert not session.takes([np.zeros((1, 2)), np.zeros((1, 2))])


def test_the_quick_way(made):
    """It takes numbers as the compiled core has read them, of one array in one run."""
    session = Session(made[0]._replace(max_rows=2), made[1], 1)
    numbers, shape = session.quick((2, 2), bytearray(rows([1, 2], [0, 1]).tobytes()))
    assert (numbers.tolist(), shape) == ([[6, 12, 18], [3, 5, 7]], (2, 3))
    assert numbers.flags.c_contiguous
    assert session.quick((3, 2), bytes(24)) is None
    assert session.quick((1, 3), bytes(12)) is None


def test_a_session_starts_no_thread(made, tmp_path):
    """With one thread."""
    import os

    before = len(os.listdir("/proc/self/task"))
    session = Session(*made, threads=1)
    session([rows([1, 2])])
    assert len(os.listdir("/proc/self/task")) == before


# --- opening ---


def unpacked(tmp_path, entry, content):
    (tmp_path / TWIN).parent.mkdir()
    (tmp_path / TWIN).write_bytes(content)
    return entry._replace(sha256=hashlib.sha256(content).hexdigest())


def test_a_twin_is_opened(made, tmp_path):
    session = Session.load(unpacked(tmp_path, *made), tmp_path, 1)
    assert session([rows([1, 2])])[0].tolist() == [[6, 12, 18]]


def test_a_twin_that_was_changed(made, tmp_path):
    entry = unpacked(tmp_path, *made)
    with (tmp_path / TWIN).open("ab") as file:
        file.write(b"\0")
    with pytest.raises(ModelError, match="was changed after packing: its hash differs"):
        Session.load(entry, tmp_path, 1)


@pytest.mark.parametrize("change", [{"inputs": ["other"]}, {"outputs": ["a", "b"]}])
def test_a_twin_of_another_model(made, change):
    with pytest.raises(ModelError, match="has other inputs or outputs than the manifest says"):
        Session(made[0]._replace(**change), made[1], 1)


def test_bytes_that_are_no_model(made):
    with pytest.raises(ModelError, match="ONNX Runtime does not take the twin: "):
        Session(made[0], b"x", 1)


# --- how near predictions are ---


@pytest.mark.parametrize(
    ("prediction", "expected"),
    [
        (rows([1, 100]), True),
        (rows([1.0009, 100]), True),
        (rows([1.1, 100]), False),
        (rows([1, np.nan]), False),
        (rows([1, 100]).astype(np.float64), False),
        (rows([1, 100])[0], False),
        ([rows([1, 100]), rows([1, 100])], False),
    ],
    ids=["same", "rounding", "another", "NaN", "type", "shape", "two"],
)
def test_near(prediction, expected):
    """The difference counts relative to the largest value: 1e-5 of 100 is 0.001."""
    assert near(rows([1, 100]), prediction, 1e-5) == expected


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_near_itself_alone(value):
    for other in (np.nan, np.inf, -np.inf, 1):
        same = other == value or np.isnan([other, value]).all()
        assert near(rows([value, 2]), rows([other, 2]), 1e-5) == same


# --- beside MXNet ---


@pytest.fixture
def predictor(monkeypatch):
    monkeypatch.setattr(faster, "GAIN", 0)
    return models.make_predictor(module(), mx.cpu(), True)


def test_a_twin_beside_mxnet(predictor, session):
    """It answers what was compared; what is not finite is MXNet's."""
    data = Arrays([rows([1, 2])])
    assert predictor.try_twin(data, session) == ""
    assert predictor.by_twin
    assert predictor(Arrays([rows([0, 1])])).tolist() == [[3, 5, 7]]
    assert predictor.quick((1, 2), rows([0, 1]).tobytes())[0].tolist() == [[3, 5, 7]]
    alone, nan = models.make_predictor(module(), mx.cpu(), True), Arrays([rows([np.nan, 1])])
    np.testing.assert_equal(predictor(nan), alone(nan))


def test_a_twin_that_gives_other_values(predictor, made):
    other = bind(mx.sym.relu(mx.sym.FullyConnected(DATA, num_hidden=3)), ("data", (1, 2)))
    entry, content = models.make_twin(
        other, models.make_predictor(other, mx.cpu(), True), Arrays([rows([1, 2])])
    )
    session = Session(entry, content, 1)
    assert predictor.try_twin(Arrays([rows([1, 2])]), session) == "it gives other values"
    assert not predictor.by_twin
    assert predictor(Arrays([rows([0, 1])])).tolist() == [[3, 5, 7]]


def test_a_twin_that_is_slower(predictor, session, monkeypatch):
    monkeypatch.setattr(faster, "GAIN", 1e9)
    reason = predictor.try_twin(Arrays([rows([1, 2])]), session)
    assert "times as fast" in reason
    assert not predictor.by_twin


def test_the_tolerance():
    assert twin.TOLERANCE == 1e-5
