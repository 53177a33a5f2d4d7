"""Draw a soak; runs in the environment that has matplotlib.

python -m tests.soak.plots SAMPLES.json PICTURE.svg
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Mapping, Sequence

import matplotlib

#: The panels: title, and the samples' fields with their labels.
_PANELS = (
    ("waits, ms", {"p50_ms": "median", "p99_ms": "99 %", "longest_ms": "longest"}),
    ("memory, MB", {"rss_mb": "RSS", "pss_mb": "PSS"}),
    ("open descriptors", {"descriptors": "descriptors"}),
    ("threads", {"threads": "threads"}),
    ("requests a second", {"rate": "requests"}),
    ("busy cores", {"cores": "cores"}),
)


def draw(samples: Sequence[Mapping[str, float]]) -> Any:
    """Draw a panel for each kind of value over time."""
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(3, 2, figsize=(11, 8), sharex=True)
    minutes = [sample["minute"] for sample in samples]
    for panel, (title, fields) in zip(panels.flat, _PANELS):
        for field, label in fields.items():
            panel.plot(minutes, [sample[field] for sample in samples], label=label, linewidth=1)
        panel.set_title(title, fontsize=9, loc="left")
        panel.tick_params(labelsize=8)
        panel.spines[["top", "right"]].set_visible(False)
        if len(fields) > 1:
            place = {"loc": "lower right", "bbox_to_anchor": (1, 1), "ncol": len(fields)}
            panel.legend(fontsize=8, frameon=False, **place)
    panels[0][0].set_yscale("log")
    for panel in list(panels.flat)[1:]:
        panel.set_ylim(bottom=0)
    for panel in panels[-1]:
        panel.set_xlabel("minutes", fontsize=8)
    figure.tight_layout()
    return figure


def _main(samples: str, picture: str) -> None:
    matplotlib.use("svg")
    # The same samples make the same file, and its text stays text.
    matplotlib.rcParams.update({"svg.hashsalt": "soak", "svg.fonttype": "none"})
    figure = draw(json.loads(Path(samples).read_text()))
    figure.savefig(picture, metadata={"Date": None})


if __name__ == "__main__":
    _main(*sys.argv[1:])
