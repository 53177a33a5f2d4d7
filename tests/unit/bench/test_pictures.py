"""bench.pictures: what is drawn of loads; tuning.picture: what is drawn of trials."""

from __future__ import annotations

import struct
import sys
import xml.etree.ElementTree

import numpy as np
import pytest
from matplotlib.figure import Figure

from mms_handler.bench import pictures
from mms_handler.bench.order import Load
from mms_handler.bench.result import Measured, Result
from mms_handler.errors import ServerError
from mms_handler.tuning import picture
from mms_handler.tuning.candidate import Candidate
from mms_handler.tuning.search import Verdict
from mms_handler.tuning.trial import Trial
from mms_handler.tuning.tuner import Limits


def result(load, rate, ms):
    """A load of one second with so many replies, whose latencies are these milliseconds in turn."""
    measured = Measured(load)
    for number in range(rate):
        measured.latencies.record_value(1000 * ms[number % len(ms)])
    measured.in_time = rate
    return Result(measured, 1)


RESULTS = [
    result(Load(clients=1), 100, [1, 2]),
    result(Load(clients=8), 400, [4]),
    result(Load(rate=50), 50, [3]),
    result(Load(rate=70), 0, [3]),
]


@pytest.fixture
def drawn(monkeypatch):
    """The figures that are written from now on."""
    figures = []
    save = Figure.savefig

    def saved(self, *arguments, **options):
        figures.append(self)
        save(self, *arguments, **options)

    monkeypatch.setattr(Figure, "savefig", saved)
    return figures


def near(values):
    """As exact as a histogram."""
    return pytest.approx(list(values), rel=2e-3)


@pytest.mark.parametrize("suffix", [".svg", ".png"])
def test_a_file_is_drawn(tmp_path, suffix):
    path = tmp_path / "new" / f"a{suffix}"
    for _ in range(2):  # also in a folder that is there
        pictures.draw(RESULTS, "a title", path)
    data = path.read_bytes()
    if suffix == ".png":
        assert data.startswith(b"\x89PNG")
        width, height = struct.unpack(">II", data[16:24])
        assert 900 < width < 1000
        assert 800 < height < 900
    else:
        assert b"<svg" in data


def test_a_picture_for_a_page():
    assert xml.etree.ElementTree.fromstring(pictures.svg(RESULTS, "a")).tag.endswith("svg")


def test_latency_against_throughput(drawn):
    """A line for each percentile of the loads by clients, and one of the rates; a name for each."""
    pictures.svg(RESULTS, "a title")
    (figure,) = drawn
    above, below = figure.axes
    assert [text.get_text() for text in figure.texts] == ["a title"]
    lines = above.lines
    assert len(lines) == 10
    for closed, opened in zip(lines[::2], lines[1::2]):
        assert list(closed.get_xdata()) == [100, 400]
        assert list(opened.get_xdata()) == [50]
        assert closed.get_color() == opened.get_color()
        assert (closed.get_marker(), opened.get_marker()) == ("o", "s")
    shown = [line.get_ydata() for line in lines[::2]]
    for values, first in zip(shown, [1, 2, 2, 2, 2]):  # p50, p90, p99, p99.9, max
        assert values == near([first, 4])
    assert all(line.get_ydata() == near([3]) for line in lines[1::2])
    styles = [line.get_linestyle() for line in lines]
    assert styles == ["-", "--"] * 4 + [":", ":"]
    assert len({line.get_color() for line in lines}) == 5
    names = [text.get_text() for text in above.get_legend().get_texts()]
    assert names == ["p50", "p90", "p99", "p99.9", "max"]
    places = [(text.get_text(), text.xy[0]) for text in above.texts]
    assert places == [("1 client", 100), ("8 clients", 400), ("50/s", 50)]
    assert [text.xy[1] for text in above.texts] == near([2, 4, 3])
    assert above.get_xlabel() == "right replies a second (clients: ● and constant rate: ■)"
    assert above.get_xlim() == near([-17.6, 440])
    for axes in (above, below):
        assert axes.get_ylabel() == "latency, ms"
        assert axes.get_yscale() == "log"
        assert [side for side, spine in axes.spines.items() if spine.get_visible()] == [
            *("left", "bottom"),
        ]


def test_the_distribution_of_latencies(drawn):
    """Up to the percentile that one reply of all shows; a line for each load with replies."""
    pictures.svg(RESULTS, "")
    _, below = drawn[0].axes
    assert not drawn[0].texts
    first, second, third = below.lines
    assert [line.get_label() for line in below.lines] == ["1 client", "8 clients", "50/s"]
    assert first.get_xdata() == near(np.arange(41) / 20)  # to 99 % of 100 replies
    assert len(second.get_xdata()) == 20 * 2.6 + 1  # 400: log10 is 2.602
    # Half of the replies took 1 ms: to 1 - 10**-0.3, which is 49.9 %.
    assert first.get_ydata() == near([1] * 7 + [2] * 34)
    assert set(np.round(third.get_ydata(), 1)) == {3.0}
    assert below.get_xticks() == near([0, 0.301, 1, 2])
    labels = [label.get_text() for label in below.get_xticklabels()]
    assert labels == ["0 %", "50 %", "90 %", "99 %"]
    assert len({line.get_color() for line in below.lines}) == 3


def test_many_loads_are_told_apart(drawn):
    pictures.svg([result(Load(clients=n), 1, [1]) for n in range(1, 22)], "")
    lines = drawn[0].axes[1].lines
    assert len({(line.get_color(), line.get_linestyle()) for line in lines}) == 21


@pytest.mark.parametrize("results", [[], RESULTS[3:]], ids=["no load", "no reply"])
def test_nothing_to_draw(drawn, results):
    pictures.svg(results, "")
    for axes in drawn[0].axes:
        assert not axes.lines
        assert axes.get_legend() is None
    assert drawn[0].axes[0].get_xlim() == near([-0.044, 1.1])


@pytest.mark.parametrize(
    ("results", "label"), [(RESULTS[:2], "(clients: ●)"), (RESULTS[2:], "(constant rate: ■)")]
)
def test_one_kind_of_load(drawn, results, label):
    pictures.svg(results, "")
    above = drawn[0].axes[0]
    assert above.get_xlabel().endswith(label)
    assert len(above.lines) == 5
    assert len(above.get_legend().get_texts()) == 5


@pytest.mark.parametrize(
    ("high", "longest", "ticks"),
    [
        (99, 100, [1, 2, 5, 10, 20, 50, 100]),
        (101, 100, [1, 10, 100]),
        (1000, 1e5, [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000]),
    ],
)
def test_the_ticks_of_milliseconds(high, longest, ticks):
    """Powers of ten alone on a long axis."""
    axes = Figure().subplots()
    axes.set_yscale("log")
    axes.set_ylim(1, high)
    pictures.format_milliseconds(axes.yaxis, longest)
    shown = [tick for tick in axes.get_yticks() if 1 <= tick <= max(high, 100)]
    assert shown == near(ticks)
    assert axes.yaxis.get_major_formatter()(0.5) == "0.5"
    assert axes.yaxis.get_minor_formatter()(0.5) == ""


@pytest.mark.parametrize("name", ["a.svg", "a.PNG"])
def test_what_can_be_drawn(tmp_path, name, monkeypatch):
    pictures.check_can_draw(tmp_path / name)
    with pytest.raises(ServerError, match=r"^--plot draws .svg and .png, not a.pdf$"):
        pictures.check_can_draw(tmp_path / "a.pdf")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ServerError, match=r"^--plot needs matplotlib, which is not installed: "):
        pictures.check_can_draw(tmp_path / name)


# --- trials ----------------------------------------------------------------------------------

DEFAULTS, WINNER, OTHER, BAD = (Candidate(batch_size=size) for size in (None, 8, 64, 1))
VERDICT = Verdict(WINNER, 300, 200, 3, True, "")
TRIALS = [
    Trial(DEFAULTS, 0, rate=210, p99_ms=3),
    Trial(OTHER, 0, rate=1000, p99_ms=4),
    Trial(WINNER, 0, rate=250, p99_ms=2),
    Trial(BAD, 0, reason="p99 70 ms"),
    Trial(DEFAULTS, 1, rate=200, p99_ms=3),
    Trial(WINNER, 1, rate=300, p99_ms=5),
    Trial(WINNER, 2, rate=310, p99_ms=6),
]


@pytest.fixture
def panels(drawn, tmp_path):
    """The two panels of the picture of TRIALS."""
    picture.draw(TRIALS, VERDICT, Limits(p99_ms=50), "a title", tmp_path / "new" / "a.svg")
    assert [text.get_text() for text in drawn[0].texts] == ["a title"]
    return drawn[0].axes


def marks(axes):
    """Place, row and kind of each mark."""
    return [
        (*each.get_offsets().tolist()[0], "round" if len(each.get_facecolors()) else "short")
        for each in axes.collections
        if len(each.get_offsets())
    ]


def test_a_mark_for_each_trial_within_the_limits(panels):
    """The confirmed candidates are above, the fastest at the top; row 0 is at the bottom."""
    speeds, latencies = panels
    names = [label.get_text() for label in speeds.get_yticklabels()]
    assert names == ["batch size 1", "batch size 64", "the defaults", "batch size 8"]
    assert speeds.get_yticks().tolist() == [0, 1, 2, 3]
    assert marks(speeds) == [
        (1000, 1, "short"),
        (210, 2, "short"),
        (200, 2, "round"),
        (250, 3, "short"),
        (300, 3, "round"),
        (310, 3, "round"),
    ]
    assert [mark[0] for mark in marks(latencies)] == [4, 3, 3, 2, 5, 6]
    assert [mark[1:] for mark in marks(latencies)] == [mark[1:] for mark in marks(speeds)]
    colours = [label.get_color() for label in speeds.get_yticklabels()]
    assert colours[0] == colours[1]
    assert len(set(colours)) == 3
    shapes = [each.get_paths()[0].vertices.shape for each in speeds.collections[:3]]
    assert shapes[0] == shapes[1] != shapes[2]


def test_the_axes_of_trials(panels):
    speeds, latencies = panels
    assert speeds.get_xlim()[0] == 0
    assert len(speeds.get_xticks()) <= 6  # numbers of five digits stay apart
    assert speeds.get_ylim() == (-0.6, 3.6)
    assert latencies.get_xscale() == "log"
    assert (speeds.get_xlabel(), latencies.get_xlabel()) == (
        "right replies a second",
        "p99 latency, ms",
    )
    (limit,) = latencies.lines
    assert list(limit.get_xdata()) == [50, 50]
    names = [text.get_text() for text in latencies.get_legend().get_texts()]
    assert names == ["--p99-ms", "short trial", "round"]
    for axes in panels:
        shown = [side for side, spine in axes.spines.items() if spine.get_visible()]
        assert shown == ["left", "bottom"]


def test_one_trial_without_a_limit(drawn, tmp_path):
    """There is a round, or none, or nothing at all that is within the limits."""
    verdict = Verdict(DEFAULTS, 0, 0, 0, False, "")
    path = tmp_path / "a.svg"
    for trials, count in (
        ([Trial(DEFAULTS, 0, rate=5, p99_ms=1)], 1),
        ([Trial(DEFAULTS, 0)], 0),
    ):
        picture.draw(trials, verdict, Limits(), "", path)
        speeds, latencies = drawn[-1].axes
        assert len(marks(speeds)) == count
        assert not latencies.lines
        assert speeds.get_ylim() == (-0.6, 0.6)
