"""Run the data of several requests in one pass: stack them, run once, split the prediction.

    data ─kind─▶ data of one kind ─stack─▶ rows ─run─▶ prediction ─split_rows─▶ one for each

A pass is shared only for data whose predictions were seen to be the same together as alone.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, Callable, Hashable, Iterator, Sequence

from mms_handler.errors import Failed, attempt
from mms_handler.models.arrays import kind, row_count, size_bytes, split_rows, stack
from mms_handler.models.evidence import agree, pairs

#: Bytes of one stack.  Further data go into the next one.
STACK_BYTES = 2**26

#: Kinds of data whose result is cached; further kinds are never batched.
KINDS = 64


class Passes:
    """Runs data in as few passes as possible, so that each gets the same prediction as alone.

    Attributes:
        shared: whether data of one kind share a pass; None: only if that was proven for the kind.
        tries: whether this is tried when data of a new kind first come together.
    """

    def __init__(self, run: Callable[[Any], Any], shared: bool | None) -> None:
        """``run`` takes data and returns their prediction."""
        self._run, self.shared, self.tries = run, shared, True
        self._proven: dict[Hashable, bool] = {}

    def __call__(
        self,
        data: Sequence[Any],
        guard: Callable[..., Any] = lambda function, *arguments: function(*arguments),
    ) -> list[Any]:
        """Predict; returns a prediction or a Failed for each of ``data``, in their order.

        Args:
            data: one for each request.
            guard: calls a function with its arguments; all calls of the model go through it.
        """
        predictions: dict[int, Any] = {}
        for indices in self._stacks(data):
            stacked = [data[index] for index in indices]
            predictions.update(zip(indices, self._predict(stacked, guard)))
        return [predictions[index] for index in range(len(data))]

    def _stacks(self, data: Sequence[Any]) -> Iterator[list[int]]:
        """The indices of data that may share a pass, in stacks of at most STACK_BYTES."""
        stacks: dict[Hashable, list[int]] = {}
        sizes: Counter[Hashable] = Counter()
        for index, datum in enumerate(data):
            key = None if self.shared is False else kind(datum)
            if key is None:
                yield [index]
                continue
            size = size_bytes(datum)
            sizes[key] += size
            if key in stacks and sizes[key] > STACK_BYTES:
                yield stacks.pop(key)
                sizes[key] = size
            stacks.setdefault(key, []).append(index)
        yield from stacks.values()

    def _predict(self, data: Sequence[Any], guard: Callable[..., Any]) -> list[Any]:
        if len(data) > 1 and self.may_share(data[0]):
            predictions = attempt(guard, self._together, data)
            if not isinstance(predictions, Failed):
                return list(predictions)
        return [attempt(guard, self._run, datum) for datum in data]

    def _together(self, data: Sequence[Any]) -> list[Any]:
        return split_rows(self._run(stack(data)), list(map(row_count, data)))

    def may_share(self, datum: Any) -> bool:
        """Whether data of the kind of ``datum`` share a pass; tried if this is not known yet."""
        if self.shared is not None:
            return self.shared
        key = kind(datum)
        if self.tries and key not in self._proven and len(self._proven) < KINDS:
            self._proven[key] = attempt(self.proven, datum) is True
        return self._proven.get(key, False)

    def learn(self, datum: Any, may_share: bool) -> None:
        """Take over whether data of the kind of ``datum`` share a pass, as was found elsewhere."""
        self._proven[kind(datum)] = may_share

    def proven(self, datum: Any) -> bool:
        """Run data like ``datum``: are their predictions the same together as alone?"""
        agreed = False
        for data, conclusive in pairs(datum):
            agrees = self._agree(data)
            if agrees is False or (agrees and conclusive):
                return agrees
            agreed = agreed or agrees is True
        return agreed

    def _agree(self, data: Sequence[Any]) -> bool | None:
        """As ``evidence.agree``; also None if the model does not take the random data at all."""
        alone = [attempt(self._run, datum) for datum in data]
        if any(isinstance(prediction, Failed) for prediction in alone):
            return None
        agrees = attempt(lambda: agree(alone, self._together(data)))
        return False if isinstance(agrees, Failed) else agrees
