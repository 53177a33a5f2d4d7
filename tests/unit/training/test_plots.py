"""training.plots: a learning curve, from a job's metrics."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest
from PIL import Image

from mms_handler.errors import TrainingError
from mms_handler.training import plots
from mms_handler.training.observer import Curve
from mms_handler.training.plots import check_can_plot, plot
from mms_handler.training.series import Point


def curve(name, *values, host="algo-1", epochs=None, steps=None):
    points = [
        Point(epochs[n] if epochs else n, steps[n] if steps else None, value)
        for n, value in enumerate(values)
    ]
    return Curve(host, name, points[-1], points[0], points)


CURVES = [
    curve("Train-accuracy", 0.5, 0.75, 0.9),
    curve("Validation-accuracy", 0.4, 0.6, 0.7, host="algo-2"),
    curve("loss", 1.0, math.nan, 0.1),
    curve("Speed", 100, 200, 300),
]


@pytest.mark.parametrize("suffix", [".svg", ".png"])
def test_a_learning_curve(tmp_path, suffix):
    """A panel for the losses and one for the accuracies."""
    path = tmp_path / "a" / "new" / f"curve{suffix}"
    plot(CURVES, path)
    if suffix == ".png":
        with Image.open(path) as picture:
            assert picture.size == (960, 720)
            assert len(picture.convert("RGB").getcolors(10_000)) > 10
    else:
        assert path.read_text().startswith("<?xml")


def test_the_colours_of_metrics(tmp_path):
    """Of Okabe and Ito: blue, vermillion, green, purple, orange, sky blue and black."""
    names = [f"{word}loss" for word in ("", *"test_ train_ training_ val_ valid_ eval_".split())]
    plot([curve(name, 1, 2) for name in names], tmp_path / "curve.svg")
    text = (tmp_path / "curve.svg").read_text().lower()
    for colour in "0072b2 d55e00 009e73 cc79a7 e69f00 56b4e9 000000".split():
        assert f"#{colour}; stroke-width: 1.5" in text, colour


def test_what_is_drawn_together():
    """Losses first; speeds and times only where there is nothing else."""
    panels = [(kind, [each.name for each in curves]) for kind, curves in plots._panels(CURVES)]
    assert panels == [("loss", ["loss"]), ("accuracy", ["Train-accuracy", "Validation-accuracy"])]
    assert [kind for kind, _ in plots._panels(CURVES[3:])] == ["speed"]
    names = ("val_acc", "test: accuracy", "acc", "training accuracy")
    assert [kind for kind, _ in plots._panels([curve(name, 1, 2) for name in names])] == [
        "accuracy"
    ]


def test_where_points_are():
    """At their epoch, several of one spread over it; at their step without epochs."""
    batches = curve("loss", 4, 3, math.inf, 2, 1, epochs=[0, 0, 0, 1, 2])
    assert plots._line(batches) == ([0, 0.5, 1, 2], [4, 3, 2, 1])
    steps = curve("loss", 4, 3, epochs=[None, None], steps=[10, 20])
    assert plots._line(steps) == ([10, 20], [4, 3])
    assert plots._line(curve("loss", 4, 3, epochs=[None, None])) == ([0, 1], [4, 3])


def lines(axes):
    return {line.get_label(): line for line in axes.get_lines()}


def test_how_curves_are_drawn():
    """A colour for each metric and a style for each host; marks where points are few."""
    loss, accuracy = plots._figure(plots._panels(CURVES[:3])).axes
    assert (loss.get_ylabel(), accuracy.get_ylabel()) == ("loss", "accuracy")
    drawn = {**lines(loss), **lines(accuracy)}
    first, second = "Train-accuracy, algo-1", "Validation-accuracy, algo-2"
    assert set(drawn) == {"loss, algo-1", first, second}
    assert [drawn[name].get_color() for name in (first, second)] == ["#0072B2", "#D55E00"]
    assert [drawn[name].get_linestyle() for name in (first, second)] == ["-", "--"]
    assert drawn[first].get_xydata().tolist() == [[0, 0.5], [1, 0.75], [2, 0.9]]
    assert (drawn[first].get_marker(), drawn[first].get_markersize()) == ("o", 3)
    assert [text.get_text() for text in accuracy.get_legend().get_texts()] == [first, second]


def test_the_axes():
    """Panels by epoch share it, in whole numbers, and only the last one has its name."""
    loss, accuracy = plots._figure(plots._panels(CURVES[:3])).axes
    assert loss.get_shared_x_axes().joined(loss, accuracy)
    assert (loss.get_xlabel(), accuracy.get_xlabel()) == ("", "epoch")
    assert all(tick == int(tick) for tick in accuracy.get_xticks())
    visible = {side for side, spine in accuracy.spines.items() if spine.get_visible()}
    assert visible == {"left", "bottom"}
    assert accuracy.get_xgridlines()[0].get_alpha() == 0.3
    steps = curve("loss", *range(21), epochs=[None] * 21, steps=list(range(21)))
    both = plots._figure([("loss", [steps]), ("accuracy", CURVES[:1])]).axes
    assert [axes.get_xlabel() for axes in both] == ["step", "epoch"]
    assert not both[0].get_shared_x_axes().joined(*both)
    assert both[0].get_lines()[0].get_marker() == "None"


def test_values_of_batches_are_behind_those_of_epochs():
    batches = curve("train loss", 4, 3, 2, 1, epochs=[0, 0, 1, 1])
    epochs = curve("test loss", 4, 3, epochs=[0, 1])
    (axes,) = plots._figure(plots._panels([batches, epochs])).axes
    behind, front = (lines(axes)[name] for name in ("train loss", "test loss"))
    assert behind.get_zorder() < front.get_zorder()
    assert 0 < behind.get_linewidth() < front.get_linewidth()
    assert 0 < behind.get_alpha() < 1
    assert front.get_alpha() is None


@pytest.mark.parametrize(
    ("curves", "names"),
    [
        pytest.param([curve("loss", 1, 2)], None, id="the axis has the name"),
        pytest.param([curve("Train-loss", 1, 2)], ["Train-loss"], id="of which data"),
        pytest.param(
            [curve("loss", 1, 2, host=f"host-{n:02}") for n in range(14)],
            [f"loss, host-{n:02}" for n in range(12)],
            id="no more than twelve",
        ),
    ],
)
def test_which_curves_have_names(curves, names):
    (axes,) = plots._figure(plots._panels(curves)).axes
    legend = axes.get_legend()
    assert (legend and [text.get_text() for text in legend.get_texts()]) == names
    assert len(axes.get_lines()) == len(curves)
    assert len({line.get_linestyle() for line in axes.get_lines()}) == min(4, len(curves))
    assert legend is None or not legend.get_frame_on()


@pytest.mark.parametrize(
    ("curves", "folder", "reason"),
    [
        pytest.param([], "here", "no metric has two values", id="nothing"),
        pytest.param([curve("loss", 1)], "here", "no metric has two values", id="a value"),
        pytest.param(CURVES, "file", "Error", id="no folder"),
    ],
)
def test_a_picture_that_is_not_drawn(tmp_path, caplog, curves, folder, reason):
    """A warning says why; the job does not fail."""
    (tmp_path / "file").touch()
    plot(curves, tmp_path / folder / "curve.svg")
    assert f"curve.svg was not drawn: {reason}" in caplog.text or reason == "Error"
    assert "was not drawn" in caplog.text


def test_a_picture_of_which_a_part_was_written(tmp_path, caplog, monkeypatch):
    """It is removed."""

    def full(self, path, dpi):
        path.write_text("a part")
        raise OSError("the disk is full")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", full)
    plot(CURVES, tmp_path / "curve.svg")
    assert "curve.svg was not drawn: OSError: the disk is full" in caplog.text
    assert not (tmp_path / "curve.svg").exists()


def test_what_is_checked_before_a_job(tmp_path, monkeypatch):
    check_can_plot(tmp_path / "curve.SVG")
    check_can_plot(tmp_path / "curve.png")
    with pytest.raises(TrainingError, match=r"^--plot draws \.svg and \.png, not curve\.pdf$"):
        check_can_plot(tmp_path / "curve.pdf")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(TrainingError, match=r"not installed: pip install 'mms_handler\[plot\]'$"):
        check_can_plot(tmp_path / "curve.svg")


def test_matplotlib_is_imported_for_plots_alone():
    source = (
        "import sys\n"
        "import mms_handler.cli.train, mms_handler.training.plots\n"
        "assert 'matplotlib' not in sys.modules\n"
    )
    assert subprocess.run([sys.executable, "-c", source]).returncode == 0
