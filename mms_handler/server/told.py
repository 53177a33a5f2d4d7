"""Tell the plug-in what only ``serve`` knows, for /metrics: how workers died, how long loads took.

deaths, load times ──▶ Told ──▶ a file: FAMILY, MODEL, VERSION, LABEL and NUMBER, with tabs between

Only the models that there are have lines.  The plug-in reads the file when it is asked for metrics.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Callable, Iterator, Mapping

from mms_handler import worker_files
from mms_handler.server.registry import Model

log = logging.getLogger(__name__)

DEATHS, LOADS = "worker_deaths_total", "model_load_seconds"


class Told:
    """What the plug-in was told."""

    def __init__(self, tell: Callable[[str], None], folder: Callable[[str], Path]) -> None:
        """``tell`` replaces the file; ``folder`` is that of a model, by MMS's name."""
        self._tell, self._folder = tell, folder
        self._text = ""
        self._loads: dict[str, tuple[Model, Mapping[str, float]]] = {}

    def tell(self, models: Mapping[str, Model], deaths: Mapping[str, Mapping[str, int]]) -> None:
        """Tell what has changed.

        Args:
            models: those that there are, by MMS's name.
            deaths: how many workers of each died, by cause.
        """
        text = "".join(self._lines(models, deaths))
        if text == self._text:
            return
        try:
            self._tell(text)
            self._text = text
        except OSError as exc:
            log.warning("/metrics lacks what has just happened: %s", exc)

    def _lines(
        self, models: Mapping[str, Model], deaths: Mapping[str, Mapping[str, int]]
    ) -> Iterator[str]:
        self._loads = {name: each for name, each in self._loads.items() if name in models}
        for name, model in models.items():
            labels = f"{model.name}\t{model.version}"
            for cause, count in sorted(deaths.get(name, {}).items()):
                yield f"{DEATHS}\t{labels}\t{cause}\t{count}\n"
            for phase, seconds in self._load_times(name, model).items():
                yield f"{LOADS}\t{labels}\t{phase}\t{seconds}\n"

    def _load_times(self, name: str, model: Model) -> Mapping[str, float]:
        """How long the phases took, which is read once for each load."""
        known = self._loads.get(name)
        if known is None or known[0] is not model:
            self._loads[name] = known = model, worker_files.read_load_times(self._folder(name))
        return known[1]
