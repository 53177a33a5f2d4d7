"""Draw the trials: a row for each candidate, with its replies a second and its latencies."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Sequence

from mms_handler.bench import pictures
from mms_handler.tuning.candidate import Candidate
from mms_handler.tuning.search import Verdict
from mms_handler.tuning.trial import Trial
from mms_handler.tuning.tuner import Limits

#: The colours of Okabe and Ito: other candidates, the defaults, the winner.
_OTHERS, _DEFAULTS, _WINNER = "#777777", "#0072B2", "#D55E00"

#: Inches: of the width, of a row, and of what is around the rows; and dots in each.
_WIDTH, _ROW, _AROUND, _DPI = 9, 0.32, 1.5, 120


def draw(trials: Sequence[Trial], verdict: Verdict, limits: Limits, title: str, path: Path) -> None:
    """Draw the trials to an SVG or PNG file; a candidate beyond the limits has no marks."""
    logging.getLogger("matplotlib").setLevel(logging.WARNING)
    from matplotlib.figure import Figure

    candidates = sorted({trial.candidate for trial in trials}, key=lambda each: _rank(trials, each))
    figure = Figure(figsize=(_WIDTH, _AROUND + _ROW * len(candidates)), layout="constrained")
    figure.suptitle(title, fontsize=11)
    speeds, latencies = figure.subplots(1, 2, sharey=True)
    for row, candidate in enumerate(candidates):
        colour = _colour(candidate, verdict)
        for trial in trials:
            if trial.candidate == candidate and trial.rate:
                marker = "D" if trial.round else "o"
                face = colour if trial.round else "none"
                style = {"marker": marker, "facecolors": face, "edgecolors": colour, "s": 28}
                speeds.scatter([trial.rate], [row], **style, zorder=2)
                latencies.scatter([trial.p99_ms], [row], **style, zorder=2)
    speeds.set_yticks(range(len(candidates)), [str(candidate) for candidate in candidates])
    for label, candidate in zip(speeds.get_yticklabels(), candidates):
        label.set_color(_colour(candidate, verdict))
    speeds.set_ylim(-0.6, max(0.6, len(candidates) - 0.4))
    if limits.p99_ms:
        latencies.axvline(limits.p99_ms, color="#000000", linestyle=":", label="--p99-ms")
    _label(speeds, latencies)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=_DPI)


def _rank(trials: Sequence[Trial], candidate: Candidate) -> tuple[bool, float]:
    """By which candidates are sorted: confirmed ones above, the fastest at the top."""
    measured = [trial for trial in trials if trial.candidate == candidate]
    last = [trial.rate for trial in measured if trial.round] or [trial.rate for trial in measured]
    return any(trial.round for trial in measured), sum(last) / len(last)


def _colour(candidate: Candidate, verdict: Verdict) -> str:
    if candidate == Candidate():
        return _DEFAULTS
    return _WINNER if candidate == verdict.candidate else _OTHERS


def _label(speeds: Any, latencies: Any) -> None:
    speeds.set_xlabel("right replies a second")
    latencies.set_xlabel("p99 latency, ms")
    speeds.margins(x=0.1)
    speeds.set_xlim(left=0)
    speeds.locator_params(axis="x", nbins=4)  # numbers of five digits stay apart
    speeds.xaxis.set_major_formatter("{x:,.0f}")
    latencies.set_xscale("log")
    pictures.format_milliseconds(latencies.xaxis, longest=100)
    for axes in (speeds, latencies):
        axes.grid(alpha=0.3)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    for marker, face, name in (("o", "none", "short trial"), ("D", "#777777", "round")):
        latencies.scatter(
            [], [], marker=marker, facecolors=face, edgecolors="#777777", s=28, label=name
        )
    latencies.legend(
        frameon=False, fontsize=8, ncol=3, loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0
    )
