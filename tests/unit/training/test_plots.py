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
    path = tmp_path / "new" / f"curve{suffix}"
    plot(CURVES, path)
    if suffix == ".png":
        with Image.open(path) as picture:
            assert picture.size == (960, 720)
            assert len(picture.convert("RGB").getcolors(10_000)) > 10
    else:
        assert path.read_text().startswith("<?xml")


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


def test_what_is_checked_before_a_job(tmp_path, monkeypatch):
    check_can_plot(tmp_path / "curve.SVG")
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
