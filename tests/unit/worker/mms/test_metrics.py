"""metrics: MMS's front end can read the lines, whatever values a script passes."""

from __future__ import annotations

import re
from decimal import Decimal

import numpy as np
import pytest
from mms.metrics.dimension import Dimension
from mms.metrics.metrics_store import MetricsStore

from mms_handler.worker.mms.metrics import Metrics

#: The lines that the front end reads (Metric.java:24-26).
PATTERN = re.compile(
    r"\s*(\w+)\.(\w+):([0-9\-,.e]+)\|#([^|]*)\|#hostname:([^,]+),([^,]+)(,(.*))?", re.A
)


@pytest.fixture
def store():
    """MMS's own store, for a batch of two requests."""
    return MetricsStore({0: "first", 1: "second"}, "m")


@pytest.fixture
def metrics(store):
    """The metrics of the second request."""
    return Metrics(store, "second")


def lines(store):
    """Return the lines that MMS would print, without host and time; check that each can be read."""
    assert all(PATTERN.fullmatch(str(metric)) for metric in store.store)
    parts = [str(metric).partition("|#hostname:") for metric in store.store]
    assert all(rest.endswith(",second") for _, _, rest in parts)
    return [head for head, _, _ in parts]


DIMENSIONS = "|#ModelName:m,Level:Model"


@pytest.mark.parametrize(
    ("call", "line"),
    [
        pytest.param(lambda m: m.add_counter("N", 2), "N.count:2", id="counter"),
        pytest.param(lambda m: m.add_time("T", 1.5), "T.Milliseconds:1.5", id="time"),
        pytest.param(lambda m: m.add_time("T", 1, 0, "s"), "T.Seconds:1", id="seconds"),
        pytest.param(lambda m: m.add_time("T", 1, unit="h"), "T.h:1", id="another unit"),
        pytest.param(lambda m: m.add_size("S", 3), "S.Megabytes:3", id="size"),
        pytest.param(lambda m: m.add_percent("P", 50), "P.Percent:50", id="percent"),
        pytest.param(lambda m: m.add_metric("M", 4), "M.unit:4", id="without a unit"),
        pytest.param(lambda m: m.add_metric("M", 4, None, "a b"), "M.a_b:4", id="an odd unit"),
        pytest.param(lambda m: m.add_metric("caf\u00e9 1", 4), "caf__1.unit:4", id="an odd name"),
        pytest.param(lambda m: m.add_metric("", 4), "_.unit:4", id="no name"),
        pytest.param(lambda m: m.add_metric(5, 4), "5.unit:4", id="a name that is a number"),
    ],
)
def test_a_metric_is_a_line(metrics, store, call, line):
    """Name, unit and value are MMS's; characters that it could not read are replaced."""
    call(metrics)
    line = line.replace(".count", ".Count")
    assert lines(store) == [line + DIMENSIONS]


@pytest.mark.parametrize(
    ("value", "digits"),
    [
        pytest.param(1e20, "100000000000000000000", id="a large float"),
        pytest.param(1e-7, "0.0000001", id="a small float"),
        pytest.param(-0.5, "-0.5", id="a negative float"),
        pytest.param(10**30, "1" + "0" * 30, id="a large int"),
        pytest.param(True, "1", id="a bool"),
        pytest.param(np.float32(0.5), "0.5", id="NumPy's float"),
        pytest.param(np.int64(7), "7", id="NumPy's int"),
        pytest.param(np.array([2.5]), "2.5", id="an array with one value"),
        pytest.param(Decimal("2.5"), "2.5", id="a Decimal"),
        pytest.param("3", "3.0", id="a text that is a number"),
    ],
)
def test_a_value_is_written_in_digits(metrics, store, value, digits):
    """The front end cannot read an exponent with a sign."""
    metrics.add_metric("M", value)
    assert lines(store) == [f"M.unit:{digits}{DIMENSIONS}"]


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(float("nan"), id="nan"),
        pytest.param(float("inf"), id="infinity"),
        pytest.param("many", id="a text"),
        pytest.param(None, id="none"),
        pytest.param([1, 2], id="a list"),
        pytest.param(object(), id="an object"),
    ],
)
def test_a_value_that_is_not_a_number_is_left_out(metrics, store, value, caplog):
    """The log names the metric."""
    metrics.add_metric("M", value)
    assert store.store == []
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith("metric 'M' left out: ")


@pytest.mark.parametrize(
    "add", ["add_counter", "add_time", "add_size", "add_percent", "add_metric"]
)
def test_dimensions_are_written(metrics, store, add):
    """MMS's own store loses all but a counter's.  Characters that break the line are replaced."""
    dimensions = [Dimension("Step one", "read, write:\n|#")]
    getattr(metrics, add)("M", 1, dimensions=dimensions)
    (line,) = lines(store)
    assert line.partition("|#")[2] == "Step_one:read_ write____,ModelName:m,Level:Model"
    assert len(dimensions) == 1


@pytest.mark.parametrize("dimensions", ["Step", 5, [1], {"a": 1}])
def test_a_metric_with_invalid_dimensions_is_left_out(metrics, store, dimensions, caplog):
    """The log has a line, and nothing is raised."""
    metrics.add_time("M", 1, dimensions=dimensions)
    assert (store.store, len(caplog.messages)) == ([], 1)


def test_counters_add_up_and_other_metrics_are_replaced(metrics, store):
    """Each combination of name, unit and dimensions has one value."""
    for value in (1, 2, 0.5):
        metrics.add_counter("N", value)
        metrics.add_time("T", value)
        metrics.add_counter("N", value, dimensions=[Dimension("Of", "b")])
    assert lines(store) == [
        f"N.Count:3.5{DIMENSIONS}",
        f"T.Milliseconds:0.5{DIMENSIONS}",
        "N.Count:3.5|#Of:b,ModelName:m,Level:Model",
    ]


def test_errors(metrics, store, caplog):
    """An error with a number is a metric; one with a text goes to the log."""
    metrics.add_error("Failures", 1)
    metrics.add_error("Failures", "the disk is full")
    assert lines(store) == ["Failures.unit:1|#Level:Error"]
    assert "the disk is full" in caplog.text


def test_each_request_of_a_batch_has_its_own_counters(store):
    """All are in the one store that MMS prints."""
    for request_id in ("first", "second"):
        Metrics(store, request_id).add_counter("N", 1, idx=0)
    ids = [str(metric).rpartition(",")[2] for metric in store.store]
    assert (ids, [metric.value for metric in store.store]) == (["first", "second"], ["1", "1"])


def test_mms_own_attributes_are_there(metrics, store):
    """Scripts read the request ids, the model's name and the store."""
    assert metrics.request_ids == {0: "first", 1: "second"}
    assert (metrics.model_name, metrics.store) == ("m", store.store)
