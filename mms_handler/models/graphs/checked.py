"""Trust a quick way to run a model only for input shapes where it agreed with the best way."""

from __future__ import annotations

import logging
from typing import Any, Callable, Sequence

from mms_handler.errors import Failed
from mms_handler.models.graphs.executors import Executors

log = logging.getLogger(__name__)

Run = Callable[[Sequence[Any]], Any]
Same = Callable[[Any, Any], bool]

#: Shapes that are compared; inputs of further shapes are always run the best way.
SHAPES = 1_000


class Checked:
    """Runs inputs the quick way if it was seen to agree for their shapes, else the best way.

    The first inputs of each shape are run both ways.  If the quick way fails, the best way
    answers, or fails with the model's own error.
    """

    def __init__(self, name: str, best: Run, quick: Run, same: Same, executors: Executors) -> None:
        """Check ``quick`` against ``best``; nothing is run yet.

        Args:
            name: of the quick way, for the log.
            best: returns the right prediction for arrays.
            quick: returns a prediction for the same arrays, or fails.
            same: whether the predictions of ``best`` and ``quick`` agree.
            executors: the executors that ``quick`` uses.
        """
        self.name, self._best, self._quick, self._same = name, best, quick, same
        self._executors = executors
        self._agreed: dict[Any, bool] = {}

    def __call__(self, arrays: Sequence[Any]) -> Any:
        """The prediction for ``arrays``."""
        shapes = self._shapes(arrays)
        if shapes not in self._agreed and len(self._agreed) < SHAPES:
            return self._compare(shapes, arrays)
        if self._agreed.get(shapes):
            try:
                return self._quick(arrays)
            except Exception as exc:  # a deadline's is a BaseException, and ends the request
                log.debug("%s failed: %s", self.name, exc)
        return self._best(arrays)

    def _compare(self, shapes: Any, arrays: Sequence[Any]) -> Any:
        """Run the first arrays of these shapes both ways; returns the best prediction."""
        try:
            prediction = self._quick(arrays)
        except Exception as exc:
            prediction = Failed(exc)
        expected = self._best(arrays)
        agreed = not isinstance(prediction, Failed) and self._same(expected, prediction)
        if not agreed:
            log.warning("%s disagrees for shapes %s; it is not used for them", self.name, shapes)
        self._agreed[shapes] = agreed
        return expected

    def _shapes(self, arrays: Sequence[Any]) -> tuple[tuple[int, ...], ...]:
        """The shapes of the samples if rows are independent, else those of the whole arrays."""
        start = self._start()
        return tuple(array.shape[start:] for array in arrays)

    def _start(self) -> int:
        return 1 if self._executors.max_rows else 0

    def agreed(self, arrays: Sequence[Any]) -> bool:
        """Whether the quick way was seen to agree for the shapes of ``arrays``."""
        return self._agreed.get(self._shapes(arrays), False)

    def agreed_for(self, shape: Sequence[int]) -> bool:
        """Whether the quick way was seen to agree for one array of this shape."""
        return self._agreed.get((tuple(shape[self._start() :]),), False)

    def trust(self, arrays: Sequence[Any]) -> None:
        """Use the quick way for the shapes of ``arrays``, which the caller has compared."""
        self._agreed[self._shapes(arrays)] = True

    def forget(self) -> None:
        """Compare all shapes again, because the parameters have new values."""
        self._agreed.clear()
