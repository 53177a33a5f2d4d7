"""The benchmarks' arithmetic and tables.  Nothing is timed here."""

from __future__ import annotations

import pytest

from benchmarks import report
from benchmarks.plan import Step, rotated, rounds
from benchmarks.report import BEGIN, END
from benchmarks.results import Results, read
from benchmarks.scenarios import Target

RATE = Target("mnist-32", "rate", ">=", 8)
LATENCY = Target("mnist-32", "p50_ms", "<=", 0.35)


@pytest.fixture
def results():
    """Three rounds of ours and of two settings of the peer, of which the second is better."""
    results = Results({"date": "today"}, {"closed": {"mnist-32": "a title"}})
    systems = ("ours", "peer, 1 x 2", "peer, 2 x 1")
    for rates in ((900, 50, 100), (800, 60, 90), (4000, 500, 110)):
        for system, rate in zip(systems, rates):
            values = {"p99_ms": 9.0, "errors": 1, "checked": 5, "wrong": 0}
            latency = {"rate": rate, "p50_ms": 1000 / rate}
            results.add("mnist-32", system, {**latency, **values})
    return results


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
def test_numbers_have_three_significant_digits(value, text):
    assert report.number(value) == text


def test_a_figure_is_the_median_with_minimum_and_maximum(results):
    """The median of 900, 800 and 4000 is 900; a single round is written alone."""
    assert report.spread(results.column("mnist-32", "ours", "rate")) == "900 (800 - 4,000)"
    assert report.spread([3.0]) == "3.00"


def test_a_ratio_is_ours_divided_by_the_peers_best_setting(results):
    """Medians are divided: 900 by 100, not by 60; 1.11 ms by 10 ms, not by 16.7 ms."""
    assert report.best(results, RATE) == "peer, 2 x 1"
    assert report.achieved(results, RATE) == 9
    assert report.best(results, LATENCY) == "peer, 2 x 1"
    assert report.achieved(results, LATENCY) == pytest.approx(1 / 9)
    assert report.met(RATE, 8)
    assert not report.met(RATE, 7.99)
    assert report.met(LATENCY, 0.35)
    assert not report.met(LATENCY, 0.36)


def test_a_target_without_a_peer_is_for_the_number_itself(results):
    """Our median of 900 is returned as it is."""
    assert report.achieved(results, Target("mnist-32", "rate", ">=", 1, "")) == 900


def test_a_missing_measurement_has_no_ratio(results):
    """There is no ratio if ours or the peer is missing, and the table says so."""
    assert report.achieved(results, Target("mlp-1", "rate", ">=", 8)) is None
    assert report.achieved(results, Target("mnist-32", "rate", ">=", 8, "LitServe")) is None
    assert "not measured" in report.targets(results)


def test_a_target_is_a_row(results):
    """A row has the scenario, both spreads, the limit, the ratio and the verdict."""
    row = (
        "| MNIST Module, row of 784, JSON, 32 clients: per second | 900 (800 - 4,000) "
        "| peer, 2 x 1: 100 (90.0 - 110) | >= 16 x | 9.00 x | void: 3 errors or wrong bodies |"
    )
    assert row in report.targets(results).splitlines()


@pytest.mark.parametrize(
    ("target", "value", "failures", "words"),
    [
        pytest.param(RATE, 8, 0, "yes", id="reached"),
        pytest.param(RATE, 6, 0, "no: 25 % short", id="too slow"),
        pytest.param(LATENCY, 0.42, 0, "no: 20 % over", id="too long"),
        pytest.param(RATE, 9, 2, "void: 2 errors or wrong bodies", id="with errors"),
    ],
)
def test_a_missed_target_says_by_how_much(target, value, failures, words):
    """Six of eight times is a quarter short; a figure with errors does not count."""
    assert report.verdict(target, value, failures) == words


def test_a_peers_rounds_with_errors_do_not_count():
    """The two rounds without errors are left; if all have some, all count."""
    results = Results({}, {})
    for rate, errors, wrong in ((100, 0, 0), (900, 3, 0), (120, 0, 0), (800, 0, 1)):
        results.add("mnist-32", "peer, 2 x 1", {"rate": rate, "errors": errors, "wrong": wrong})
        results.add("mnist-32", "peer, 1 x 2", {"rate": rate, "errors": 1, "wrong": 0})
    assert report.counted(results, "mnist-32", "peer, 2 x 1", "rate") == [100, 120]
    assert report.counted(results, "mnist-32", "peer, 1 x 2", "rate") == [100, 900, 120, 800]


def test_a_variant_of_ours_is_compared_with_ours():
    """An exact name wins over those that it begins, such as the variant's own."""
    results = Results({}, {})
    for system, rate in (("ours", 100), ("ours, plain folder", 95), ("ours, int8", 300)):
        results.add("mobilenet-npy", system, {"rate": rate})
    target = Target("mobilenet-npy", "rate", ">=", 0.95, "ours", "ours, plain folder")
    assert report.best(results, target) == "ours"
    assert report.achieved(results, target) == 0.95


def test_the_picture_has_each_ratio_as_a_multiple_of_its_target(results):
    """Nine times the peer is 9/16 of what is wanted; with errors, it is not in the picture."""
    assert not list(report.reached(results))
    for row in results.rows:
        row["values"]["errors"] = 0
    (found,) = report.reached(results)
    assert found == ("MNIST Module, row of 784, 32 clients, against peer", 9 / 16)


@pytest.mark.parametrize(
    ("left_s", "number"),
    [
        pytest.param(1000, 5, id="enough time"),
        pytest.param(150, 5, id="just enough"),
        pytest.param(149, 4, id="one round less"),
        pytest.param(0, 3, id="late, three all the same"),
    ],
)
def test_a_late_run_measures_fewer_rounds(left_s, number):
    """Five rounds of this step take 110 s, three of the next one 40 s."""
    steps = [Step("this", 10, 20), Step("next", 10, 10)]
    assert rounds(steps, 5, left_s) == number
    assert rounds(steps, 1, left_s) == 1


def test_errors_and_wrong_bodies_are_counted_over_all_rounds(results):
    """Each of the three rounds has one error and five checked bodies."""
    row = next(line for line in report.text(results).splitlines() if line.startswith("| ours |"))
    assert row.endswith("| 3 | 0 of 15 |")


def test_failed_measurements_are_listed(results):
    """The text ends with each system that could not be measured, and the reason."""
    results.is_absent("mlp", "ours", "error: no Java")
    assert report.text(results).endswith("## Not measured\n\n* mlp: ours: `error: no Java`")


def test_saved_results_can_be_read_again(results, tmp_path):
    """Every field survives the file."""
    results.tables["codecs"] = "| a |"
    results.save(tmp_path / "results.json")
    assert vars(read(tmp_path / "results.json")) == vars(results)


def test_only_the_part_between_the_marker_lines_is_written(results, tmp_path):
    """The prose around the lines stays, and a second write changes nothing."""
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
def test_a_page_without_the_marker_lines_is_refused(page):
    """Each line must be there exactly once, in the right order."""
    with pytest.raises(ValueError, match="each exactly once"):
        report.between(page, "new")


def test_each_round_has_another_order():
    """No system always comes first, or always after the same neighbour."""
    assert [rotated("abc", number) for number in range(3)] == [
        ["a", "b", "c"],
        ["a", "c", "b"],
        ["c", "a", "b"],
    ]
