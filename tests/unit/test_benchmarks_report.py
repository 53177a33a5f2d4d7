"""The benchmarks' arithmetic: what they say of numbers that were measured; nothing is timed."""

from __future__ import annotations

import pytest

from benchmarks import report
from benchmarks.plan import turned
from benchmarks.report import BEGIN, END
from benchmarks.results import Results, read
from benchmarks.scenarios import Target

RATE = Target("mnist-32", "rate", ">=", 8)
LATENCY = Target("mnist-32", "p50_ms", "<=", 0.35)


@pytest.fixture
def results():
    """Three rounds: ours and two settings of the peer, the second of which is the better."""
    made = Results({"date": "today"}, {"closed": {"mnist-32": "a title"}})
    for ours, first, second in ((900, 50, 100), (800, 60, 90), (4000, 500, 110)):
        for system, rate in {"ours": ours, "peer, 1 x 2": first, "peer, 2 x 1": second}.items():
            values = {"p99_ms": 9.0, "errors": 1, "checked": 5, "wrong": 0}
            latency = {"rate": rate, "p50_ms": 1000 / rate}
            made.add("mnist-32", system, {**latency, **values})
    return made


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.00123, "0.001"),
        (0.0456, "0.046"),
        (0.347, "0.347"),
        (1.006, "1.01"),
        (12.34, "12.3"),
        (99.96, "100"),
        (123.4, "123"),
        (7259.7, "7,260"),
        (-3.2, "-3.20"),
    ],
)
def test_numbers_have_three_digits_that_say_something(value, text):
    assert report.number(value) == text


def test_a_figure_is_the_median_with_the_least_and_the_most(results):
    """Of 900, 800 and 4000 it is 900; of one round it is that number."""
    assert report.spread(results.column("mnist-32", "ours", "rate")) == "900 (800 - 4,000)"
    assert report.spread([3.0]) == "3.00"


def test_a_ratio_is_ours_by_the_best_of_the_peers_settings(results):
    """Medians: 900 by 100, not by 60; 1.11 ms by 10 ms, not by 16.7."""
    assert report.best(results, RATE) == "peer, 2 x 1"
    assert report.reached(results, RATE) == 9
    assert report.best(results, LATENCY) == "peer, 2 x 1"
    assert report.reached(results, LATENCY) == pytest.approx(1 / 9)
    assert report.met(RATE, 8)
    assert not report.met(RATE, 7.99)
    assert report.met(LATENCY, 0.35)
    assert not report.met(LATENCY, 0.36)


def test_a_target_without_another_system_is_the_number_itself(results):
    assert report.reached(results, Target("mnist-32", "rate", ">=", 1, "")) == 900


def test_what_was_not_measured_has_no_ratio(results):
    """Neither where ours is missing nor where the other is; the table says so."""
    assert report.reached(results, Target("mlp-1", "rate", ">=", 8)) is None
    assert report.reached(results, Target("mnist-32", "rate", ">=", 8, "LitServe")) is None
    assert "not measured" in report.targets(results)


def test_a_target_is_a_row(results):
    row = (
        "| MNIST Module, row of 784, JSON, 32 clients: a second | 900 (800 - 4,000) "
        "| peer, 2 x 1: 100 (90.0 - 110) | >= 8 x | 9.00 x | yes |"
    )
    assert row in report.targets(results).splitlines()


def test_errors_and_wrong_bodies_are_counted_over_all_rounds(results):
    """One error in each of three rounds, five bodies checked in each."""
    row = next(line for line in report.text(results).splitlines() if line.startswith("| ours |"))
    assert row.endswith("| 3 | 0 of 15 |")


def test_what_could_not_be_measured_is_told(results):
    results.is_absent("mlp", "ours", "error: no Java")
    assert report.text(results).endswith("## Not measured\n\n* mlp: ours: `error: no Java`")


def test_what_was_kept_is_read_again(results, tmp_path):
    results.tables["codecs"] = "| a |"
    results.save(tmp_path / "results.json")
    assert vars(read(tmp_path / "results.json")) == vars(results)


def test_only_what_lies_between_the_two_lines_is_written(results, tmp_path):
    """The prose around them stays, and writing twice is writing once."""
    page = tmp_path / "performance.md"
    page.write_text(f"before\n\n{BEGIN}\n\nold\n\n{END}\n\nafter\n")
    report.write(results, page)
    first = page.read_text()
    report.write(results, page)
    assert (
        page.read_text()
        == first
        == f"before\n\n{BEGIN}\n\n{report.text(results)}\n\n{END}\n\nafter\n"
    )


@pytest.mark.parametrize("page", ["", BEGIN, END, f"{END}{BEGIN}", f"{BEGIN}{END}{BEGIN}{END}"])
def test_a_page_without_the_two_lines_is_left_alone(page):
    with pytest.raises(ValueError, match="once each was wanted"):
        report.between(page, "new")


def test_rounds_begin_elsewhere_and_turn_around():
    """No system always comes first, or always after the same neighbour."""
    assert [turned("abc", number) for number in range(3)] == [
        ["a", "b", "c"],
        ["a", "c", "b"],
        ["c", "a", "b"],
    ]
