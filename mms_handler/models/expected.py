"""Whether a call failed because of its arrays' shapes, and which shapes the model takes.

MXNet's own words differ from operator to operator, and often name a weight's shape.  What the
model takes is learned from the first call that worked, the file of shapes, or the model's graph.
A model with Python code is asked: it must fail for zeros of these shapes too, and take zeros of
those that it is known to take.  MXNet's words count only where nothing is known.
"""

from __future__ import annotations

import math
from typing import Any, Callable, Sequence

import mxnet as mx
import numpy as np

from mms_handler import errors
from mms_handler.errors import BadInput, Failed, HandlerError, attempt
from mms_handler.models.graphs.shapes import Pattern, Shape, ShapeRules
from mms_handler.models.mx import shape_error

#: Calls a model with an array for each input.
Run = Callable[[Sequence[Any]], Any]

#: Shapes that were refused and are remembered: asking a model again would take time.
_MEMORY = 1_000

#: Calls that worked from which is learned.
_LEARNED = 1_000

#: The most rows, and bytes of an input, in a call that is only a trial.
_TRIAL_ROWS, _TRIAL_BYTES = 16, 2**26


class Expected:
    """What is known about the shapes that a model takes."""

    def __init__(
        self,
        rules: Callable[[], ShapeRules | None],
        names: Sequence[str] = (),
        saved: Sequence[Shape] = (),
        *,
        exact: bool = True,
        subject: str = "the body has",
    ) -> None:
        """Nothing is tried before a call fails.

        Args:
            rules: finds the rules of the model's graph, if it has one.
            names: of the inputs.
            saved: shapes of the inputs, with any number of rows, that the model may take.
            exact: whether the graph is all that a call computes.  A script's predict_fn may do
                more before it calls the model.
            subject: what has the shapes of a call that fails, for messages.
        """
        self._find_rules, self._names, self._exact = rules, list(names), exact
        self._subject = subject
        self._saved = tuple(map(tuple, saved))
        self._calls = 0  # that worked
        self._worked: tuple[Pattern, ...] = ()  # of the shapes in them
        self._example: tuple[Shape, ...] = ()  # the shapes in the first of them
        self._traced = False
        self._rules: ShapeRules | None = None  # once it was traced
        self._known: tuple[Pattern, ...] | None = None  # once it was looked for; () for none
        self._taken: tuple[Shape, ...] = ()  # shapes of the known patterns
        self._refused: dict[tuple[Shape, ...], str | None] = {}

    def worked(self, arrays: Sequence[Any]) -> None:
        """Learn from the shapes of a call that worked; only the first ones cost time."""
        if self._calls >= _LEARNED or not all(hasattr(array, "shape") for array in arrays):
            return
        self._calls += 1
        shapes = _shapes(arrays)
        patterns = tuple(map(_widened, self._worked or shapes, shapes))
        if patterns != self._worked:
            self._worked, self._example = patterns, self._example or shapes
            self._known, self._traced = None, False
            self._refused.clear()

    def fault(self, arrays: Sequence[Any], exc: Exception, run: Run) -> BadInput | None:
        """The client's error if ``run(arrays)`` raised ``exc`` for their shapes, else None."""
        if isinstance(exc, HandlerError) or errors.fault(exc).status != 500:
            return None
        if not arrays or not all(isinstance(a, (mx.nd.NDArray, np.ndarray)) for a in arrays):
            return None
        shapes = _shapes(arrays)
        if shapes not in self._refused and len(self._refused) < _MEMORY:
            self._refused[shapes] = self._reason(arrays, run)
        reason = self._refused.get(shapes)
        rules_known = self._rules is not None and self._rules.exact
        known = rules_known or self._known or self._has_worked(shapes)
        if reason is None and self._exact and not known:
            words = shape_error(exc)  # of MXNet, which alone knows
            reason = f"the model does not take this body: {words}" if words else None
        return BadInput(reason) if reason else None

    def _reason(self, arrays: Sequence[Any], run: Run) -> str | None:
        """Why the model does not take the shapes of ``arrays``; None if they are not at fault."""
        shapes = _shapes(arrays)
        if not self._traced:
            self._traced, self._rules = True, self._find_rules()
        rules = self._rules
        reason = rules.refusal(shapes) if rules and rules.exact and self._exact else None
        if reason:
            differs = self._difference(shapes, arrays, run)
            return differs or f"the model does not take shape {_listed(shapes)}: {reason}"
        if self._has_worked(shapes):
            return None
        differs = self._difference(shapes, arrays, run)
        if differs and _fails(run, _zeros(shapes, arrays)) and not self._rows_fail(arrays, run):
            return differs
        return None

    def _has_worked(self, shapes: Sequence[Shape]) -> bool:
        """Whether calls with shapes like these have worked."""
        return bool(self._worked) and all(map(_fits, self._worked, shapes))

    def _rows_fail(self, arrays: Sequence[Any], run: Run) -> bool:
        """Whether a call also fails for as many rows of a shape that works."""
        rows = max([1, *(array.shape[0] for array in arrays if array.shape)])
        return _fails(run, _zeros([_with_rows(shape, rows) for shape in self._taken], arrays))

    def _look(self, arrays: Sequence[Any], run: Run) -> tuple[Pattern, ...]:
        """Patterns of the shapes that the model takes, as a call with zeros shows; () for none."""
        saved = tuple(_with_rows(shape, 1) for shape in self._saved)
        for shapes, patterns in ((self._example, self._worked), (saved, saved)):
            if len(shapes) == len(arrays) and not _fails(run, _zeros(shapes, arrays)):
                self._taken = shapes
                return tuple((None, *pattern[1:]) for pattern in patterns)
        inferred = self._rules.search() if self._rules and len(arrays) == 1 else None
        if inferred is None:
            return ()
        shape, pattern = inferred
        self._taken = (shape,)
        return () if _fails(run, _zeros((shape,), arrays)) else (pattern,)

    def _difference(self, shapes: Sequence[Shape], arrays: Sequence[Any], run: Run) -> str | None:
        """A sentence about the first of these shapes that the model does not take; None without."""
        if self._known is None:
            self._known = self._look(arrays, run)
        for place, (pattern, shape) in enumerate(zip(self._known, shapes)):
            if _fits(pattern, shape):
                continue
            role = f" as {self._names[place]}" if len(self._names) == len(shapes) > 1 else ""
            return f"the model takes {_written(pattern)}{role}, {self._subject} {shape}"
        return None


def _shapes(arrays: Sequence[Any]) -> tuple[Shape, ...]:
    return tuple(tuple(array.shape) for array in arrays)


def _widened(pattern: Pattern, shape: Shape) -> Pattern:
    """A pattern that ``shape`` fits too, with any number of rows.

    Another number of dimensions changes nothing: a Dense layer takes some of them.
    """
    if len(pattern) != len(shape) or not shape:
        return pattern
    return (None, *(side if side == other else None for side, other in zip(pattern[1:], shape[1:])))


def _fits(pattern: Pattern, shape: Shape) -> bool:
    return len(pattern) == len(shape) and all(
        expected in (None, side) for expected, side in zip(pattern, shape)
    )


def _with_rows(shape: Shape, rows: int) -> Shape:
    """``shape`` with another number of rows, but not with more than a trial may have."""
    if not shape:
        return shape
    fitting = max(1, _TRIAL_BYTES // (4 * math.prod(shape[1:]) or 1))
    return (min(rows, _TRIAL_ROWS, fitting), *shape[1:])


def _written(pattern: Pattern) -> str:
    """A pattern as text, with N rows: (N, 1, 8, 8)."""
    rows, *sides = pattern
    words = ["N" if rows is None else str(rows)]
    words += ["any" if side is None else str(side) for side in sides]
    return f"({', '.join(words)})" if sides else f"({words[0]},)"


def _listed(shapes: Sequence[Shape]) -> str:
    return ", ".join(map(str, shapes))


def _zeros(shapes: Sequence[Shape], arrays: Sequence[Any]) -> list[Any]:
    """Zeros of these shapes, otherwise like ``arrays``."""
    return [
        mx.nd.zeros(shape, ctx=array.context, dtype=array.dtype)
        if isinstance(array, mx.nd.NDArray)
        else np.zeros(shape, array.dtype)
        for shape, array in zip(shapes, arrays)
    ]


def _fails(run: Run, arrays: Sequence[Any]) -> bool:
    outcome = attempt(run, arrays)
    if isinstance(outcome, Failed) and not isinstance(outcome.exc, Exception):
        raise outcome.exc  # the time limit's
    return isinstance(outcome, Failed)
