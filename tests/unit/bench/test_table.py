"""bench.table and bench.result: what is said of loads, from counts that are known."""

from __future__ import annotations

import json
import sys

import pytest

from mms_handler.bench import table
from mms_handler.bench.order import Load, Order, Timing
from mms_handler.bench.result import Measured, Result, check_has_histogram, limited
from mms_handler.bench.usage import Used
from mms_handler.errors import ServerError

ONE = Load(clients=1)

USED = Used(front_cpu_s=0.5, workers_cpu_s=2, front_mb=1234.4, workers_mb=99.6, workers=2)


def measured(load=ONE, *, us=(), late_us=(), failures=None, wrong=0, busy_s=()):
    """What a load met: latencies of right replies, and lateness, in microseconds."""
    made = Measured(load)
    for value in us:
        made.latencies.record_value(value)
    for value in late_us:
        made.late.record_value(value)
    made.in_time = len(us)
    made.failures.update(failures or {})
    made.wrong, made.example = wrong, "[6]" if wrong else ""
    made.generator_cpu_s = dict(enumerate(busy_s))
    return made


# A histogram keeps three digits.
SHOWN = measured(Load(clients=2), us=[1000] * 98 + [12_300, 123_400], failures={"a": 1200})
EMPTY = measured(Load(rate=2.5), failures={"status 503": 2}, wrong=1)


def test_a_row_for_each_load():
    """Latencies have three digits or more; a load without replies has no latencies."""
    assert table.rows([Result(SHOWN, 0.05), Result(EMPTY, 1)]) == [
        ["2 clients", "2,000", "1.00", "1.00", "12.3", "123", "123", "1,200", "0"],
        ["2.5/s", "0", "-", "-", "-", "-", "-", "2", "1"],
    ]
    assert table.columns([Result(SHOWN, 0.05)]) == (
        *("LOAD", "REPLIES/S", "P50", "P90", "P99", "P99.9", "MAX", "ERRORS", "WRONG"),
    )
    assert table.caption([Result(SHOWN, 0.05)]) == "Latencies are in ms."


@pytest.mark.parametrize(
    ("us", "text"),
    [(9_990, "9.99"), (10_000, "10.0"), (99_900, "99.9"), (99_999, "100"), (1_230_000, "1,231")],
)
def test_the_digits_of_a_latency(us, text):
    assert table.rows([Result(measured(us=[us]), 1)])[0][2] == text


def test_what_the_server_used_is_said_for_each_reply():
    """If any load has it; a load that has no replies has a dash for each column."""
    results = [Result(SHOWN, 1, USED), Result(EMPTY, 1, USED), Result(SHOWN, 1)]
    used = ("CPU-FRONT", "CPU-WORKERS", "MB-FRONT", "MB-WORKERS")
    assert table.columns(results)[-5:] == ("WRONG", *used)
    assert [row[-5:] for row in table.rows(results)] == [
        ["0", "5.000", "20.000", "1,234", "100"],
        ["1", "-", "-", "-", "-"],
        ["0", "-", "-", "-", "-"],
    ]
    caption = table.caption(results)
    assert caption.startswith("Latencies are in ms.  CPU is in ms for each reply; MB is the memory")


def test_what_is_wrong_is_said_by_load():
    """The most frequent errors first, five at most."""
    many = {f"reason {number}": number for number in range(1, 7)}
    results = [
        Result(measured(us=[1]), 1),
        Result(measured(us=[1], failures=many), 1),
        Result(measured(us=[1], wrong=1000), 1),
        Result(measured(), 1),
        Result(measured(wrong=1), 1, limited="too busy"),
    ]
    assert table.notes(results) == [
        "1 client: 6 x reason 6, 5 x reason 5, 4 x reason 4, 3 x reason 3, 2 x reason 2",
        "1 client: 1,000 wrong replies, the first is '[6]'",
        "1 client: there was no reply that counts; measure longer",
        "1 client: 1 wrong replies, the first is '[6]'",
        "1 client: too busy",
    ]


@pytest.mark.parametrize(
    ("made", "is_good"),
    [
        (measured(us=[1]), True),
        (measured(), False),
        (measured(us=[1], failures={"a": 1}), False),
        (measured(us=[1], wrong=1), False),
    ],
    ids=["right replies", "none", "an error", "a wrong one"],
)
def test_a_good_result(made, is_good):
    assert Result(made, 1).is_good is is_good


def test_a_result_for_a_program():
    document = Result(SHOWN, 0.0504, USED, "too busy").as_json()
    assert json.loads(json.dumps(document)) == document
    assert document.pop("histogram").startswith("HIST")
    # A histogram says the largest value that it does not tell from the one that came.
    latencies = document.pop("latency_ms")
    assert latencies == pytest.approx(
        {"p50": 1.0, "p90": 1.0, "p99": 12.3, "p99.9": 123.4, "max": 123.4}, rel=1e-3
    )
    assert document == {
        "clients": 2, "rate": None, "seconds": 0.05, "replies_per_second": 1984.1, "replies": 100,
        "errors": {"a": 1200}, "wrong_replies": 0, "wrong_reply": None,
        "server": USED._asdict(), "limited_by_generator": "too busy",
    }  # fmt: skip
    other = Result(EMPTY, 0).as_json()
    assert (other["clients"], other["rate"], other["replies_per_second"]) == (None, 2.5, 0)
    assert (other["wrong_reply"], other["server"]) == ("[6]", None)
    assert other["limited_by_generator"] is None


def test_the_percentiles_of_a_result():
    """None is below what so many percent of the replies took."""
    document = Result(measured(us=[1000 * ms for ms in range(1, 1001)]), 1).as_json()
    assert document["latency_ms"] == pytest.approx(
        {"p50": 500, "p90": 900, "p99": 990, "p99.9": 999, "max": 1000}, rel=2e-3
    )
    new = Measured(ONE)
    assert (new.in_time, new.wrong, new.example, new.errors) == (0, 0, "", 0)


@pytest.mark.parametrize(
    ("made", "seconds", "begin"),
    [
        (measured(busy_s=[0.1, 1.5]), 2, ""),
        (measured(busy_s=[0.1, 1.7]), 2, "the load itself took 85% of a core"),
        (measured(busy_s=[0.1]), 0, "the load itself took"),
        (measured(), 0, ""),
        (measured(late_us=[1900] * 100), 1, ""),
        (measured(late_us=[1] * 98 + [9000] * 2), 1, "one request in a hundred was sent 9.0 ms"),
        (measured(late_us=[1] * 99 + [9000]), 1, ""),
    ],
    ids=["busy", "too busy", "ended at once", "nothing", "late", "too late", "late in a hundredth"],
)
def test_a_load_that_is_itself_the_limit(made, seconds, begin):
    """One process of it that is too busy is enough."""
    text = limited(made, seconds)
    assert text.startswith(begin)
    assert bool(text) is bool(begin)


def test_a_missing_histogram_says_what_to_install(monkeypatch):
    check_has_histogram()
    monkeypatch.setitem(sys.modules, "hdrh", None)
    with pytest.raises(ServerError, match=r"pip install 'mms_handler\[bench\]'"):
        check_has_histogram()


# --- orders ----------------------------------------------------------------------------------


def test_an_order_is_one_line():
    """Also with bytes that are no text."""
    order = Order("h", 80, b"\xff\n\0", {"body": "a\nb"}, 1, 2.5, 3, 0.25, Timing(1, 2, 3))
    line = order.encode()
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert Order.decode(line) == order
    assert isinstance(Order.decode(line).timing, Timing)


@pytest.mark.parametrize(
    ("load", "text"),
    [
        (Load(clients=1), "1 client"),
        (Load(clients=2), "2 clients"),
        (Load(rate=0.5), "0.5/s"),
        (Load(rate=200), "200/s"),
    ],
)
def test_the_name_of_a_load(load, text):
    assert str(load) == text
