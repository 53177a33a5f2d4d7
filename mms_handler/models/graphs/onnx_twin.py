"""Run a Module as its ONNX twin, beside MXNet, if that agrees and is faster."""

from __future__ import annotations

import functools
from typing import Any, Sequence

from mms_handler.models.graphs import faster
from mms_handler.models.graphs.checked import Checked, Run
from mms_handler.models.graphs.executors import Array, Executors
from mms_handler.models.twin import Session, near


class CheckedTwin(Checked):
    """A Module's twin, for the shapes for which it was seen to agree."""

    def __init__(self, best: Run, twin: Session, executors: Executors) -> None:
        """Check ``twin`` against ``best``; nothing is run yet."""
        same = functools.partial(near, tolerance=twin.entry.tolerance)
        super().__init__("ONNX twin of the Module", best, twin, same, executors)
        self._twin = twin

    def quick(self, shape: Sequence[int], numbers: Any) -> Any:
        """The prediction for one array, its numbers and shape; None if it was not compared."""
        return self._twin.quick(tuple(shape), numbers) if self.agreed_for(shape) else None


def checked_twin(
    executors: Executors, best: Run, arrays: Sequence[Array], twin: Session
) -> tuple[Any, str]:
    """A Module's twin, if it agrees and is faster for ``arrays``; else ``best``.

    Args:
        executors: the Module's.
        best: the best way to run it until now.
        arrays: a sample; others like it are made up.
        twin: the twin.

    Returns:
        What runs the Module from now on, and why it is not the twin; "" if it is.
    """
    checked = CheckedTwin(best, twin, executors)
    same = functools.partial(near, tolerance=twin.entry.tolerance)
    trial = faster.compare(faster.baseline(best, arrays), best, twin, same)
    if trial.gain and trial.gain >= faster.GAIN:
        checked.trust(arrays)
        return checked, ""
    return best, f"it {trial.summary}" if not trial.gain else f"it is {trial.summary}"
