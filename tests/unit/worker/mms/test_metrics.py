"""metrics: lines that MMS's front end can read, whatever a script gives."""

from __future__ import annotations

import re
from decimal import Decimal

import numpy as np
import pytest
from mms.metrics.dimension import Dimension
from mms.metrics.metrics_store import MetricsStore

from mms_handler.worker.mms.metrics import Metrics

#: What the front end reads (Metric.java:24-26).
PATTERN = re.compile(
    r"\s*(\w+)\.(\w+):([0-9\-,.e]+)\|#([^|]*)\|#hostname:([^,]+),([^,]+)(,(.*))?", re.A
)


@pytest.fixture
def store():
    """MMS's own store for a batch of two."""
    return MetricsStore({0: "first", 1: "second"}, "m")


@pytest.fixture
def metrics(store):
    """The second request's."""
    return Metrics(store, "second")


def lines(store):
    """What MMS would print, without the host and the time; each can be read."""
    assert all(PATTERN.fullmatch(str(one)) for one in store.store)
    found = [str(one).partition("|#hostname:") for one in store.store]
    assert all(rest.endswith(",second") for _, _, rest in found)
    return [head for head, _, _ in found]


OWN = "|#ModelName:m,Level:Model"


@pytest.mark.parametrize(
    ("call", "line"),
    [
        pytest.param(lambda m: m.add_counter("N", 2), "N.count:2", id="counter"),
        pytest.param(lambda m: m.add_time("T", 1.5), "T.Milliseconds:1.5", id="time"),
        pytest.param(lambda m: m.add_time("T", 1, 0, "s"), "T.Seconds:1", id="seconds"),
        pytest.param(lambda m: m.add_time("T", 1, unit="h"), "T.h:1", id="a unit of its own"),
        pytest.param(lambda m: m.add_size("S", 3), "S.Megabytes:3", id="size"),
        pytest.param(lambda m: m.add_percent("P", 50), "P.Percent:50", id="percent"),
        pytest.param(lambda m: m.add_metric("M", 4), "M.unit:4", id="without a unit"),
        pytest.param(lambda m: m.add_metric("M", 4, None, "a b"), "M.a_b:4", id="an odd unit"),
        pytest.param(lambda m: m.add_metric("caf\u00e9 1", 4), "caf__1.unit:4", id="an odd name"),
        pytest.param(lambda m: m.add_metric("", 4), "_.unit:4", id="no name"),
        pytest.param(lambda m: m.add_metric(5, 4), "5.unit:4", id="a name that is a number"),
    ],
)
def test_a_line(metrics, store, call, line):
    """Name, unit and value as MMS has them, or as near as it can read."""
    call(metrics)
    line = line.replace(".count", ".Count")
    assert lines(store) == [line + OWN]


@pytest.mark.parametrize(
    ("value", "digits"),
    [
        pytest.param(1e20, "100000000000000000000", id="a large float"),
        pytest.param(1e-7, "0.0000001", id="a small float"),
        pytest.param(-0.5, "-0.5", id="a negative one"),
        pytest.param(10**30, "1" + "0" * 30, id="a large int"),
        pytest.param(True, "1", id="a truth"),
        pytest.param(np.float32(0.5), "0.5", id="NumPy's float"),
        pytest.param(np.int64(7), "7", id="NumPy's int"),
        pytest.param(np.array([2.5]), "2.5", id="an array of one"),
        pytest.param(Decimal("2.5"), "2.5", id="a Decimal"),
        pytest.param("3", "3.0", id="a text that is a number"),
    ],
)
def test_a_value_is_written_in_digits(metrics, store, value, digits):
    """The front end reads no exponents with a sign."""
    metrics.add_metric("M", value)
    assert lines(store) == [f"M.unit:{digits}{OWN}"]


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
def test_a_value_that_is_no_number(metrics, store, value, caplog):
    """It is left out, and the log says which."""
    metrics.add_metric("M", value)
    assert store.store == []
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith("metric 'M' left out: ")


@pytest.mark.parametrize(
    "add", ["add_counter", "add_time", "add_size", "add_percent", "add_metric"]
)
def test_dimensions_survive(metrics, store, add):
    """Those of MMS's own store do for counters alone; what would break the line is replaced."""
    given = [Dimension("Step one", "read, write:\n|#")]
    getattr(metrics, add)("M", 1, dimensions=given)
    (line,) = lines(store)
    assert line.partition("|#")[2] == "Step_one:read_ write____,ModelName:m,Level:Model"
    assert len(given) == 1


@pytest.mark.parametrize("odd", ["Step", 5, [1], {"a": 1}])
def test_dimensions_that_are_none(metrics, store, odd, caplog):
    """The metric is left out; nothing is raised."""
    metrics.add_time("M", 1, dimensions=odd)
    assert (store.store, len(caplog.messages)) == ([], 1)


def test_a_counter_counts_and_others_are_replaced(metrics, store):
    """Per name, unit and dimensions."""
    for value in (1, 2, 0.5):
        metrics.add_counter("N", value)
        metrics.add_time("T", value)
        metrics.add_counter("N", value, dimensions=[Dimension("Of", "b")])
    assert lines(store) == [
        f"N.Count:3.5{OWN}",
        f"T.Milliseconds:0.5{OWN}",
        "N.Count:3.5|#Of:b,ModelName:m,Level:Model",
    ]


def test_an_error(metrics, store, caplog):
    """Of a number; a text is in the log."""
    metrics.add_error("Failures", 1)
    metrics.add_error("Failures", "the disk is full")
    assert lines(store) == ["Failures.unit:1|#Level:Error"]
    assert "the disk is full" in caplog.text


def test_requests_of_a_batch_do_not_share(store):
    """Each counts for itself, into one store, which MMS prints."""
    for request_id in ("first", "second"):
        Metrics(store, request_id).add_counter("N", 1, idx=0)
    ids = [str(one).rpartition(",")[2] for one in store.store]
    assert (ids, [one.value for one in store.store]) == (["first", "second"], ["1", "1"])


def test_the_rest_is_mms_own(metrics, store):
    """What scripts read of it."""
    assert metrics.request_ids == {0: "first", 1: "second"}
    assert (metrics.model_name, metrics.store) == ("m", store.store)
