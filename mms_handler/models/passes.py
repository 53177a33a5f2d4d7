"""Run the data of several requests in one pass: stack them, run once, split the prediction.

    data ─kind─▶ data of one kind ─stack─▶ rows ─run─▶ prediction ─split_rows─▶ one for each

A pass is shared only for data whose predictions were seen to be the same together as alone.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, Callable, Hashable, Iterator, Sequence

from mms_handler.errors import Failed, attempt
from mms_handler.models.arrays import Stack, kind, row_count, size_bytes, stack
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
        data: Sequence[Any] | Stack,
        guard: Callable[..., Any] = lambda function, *arguments: function(*arguments),
    ) -> list[Any] | Stack:
        """Predict.

        Args:
            data: one for each request; or those of all as a Stack of at most STACK_BYTES.
            guard: calls a function with its arguments; all calls of the model go through it.

        Returns:
            A prediction or a Failed for each request, in their order.  The predictions for a Stack
            are one if they were made in one pass.
        """
        if isinstance(data, Stack):
            return self._predict(data, guard)
        predictions: dict[int, Any] = {}
        for indices in self._stacks(data):
            some = [data[index] for index in indices]
            predictions.update(zip(indices, self._predict_some(some, guard)))
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

    def _predict_some(self, data: Sequence[Any], guard: Callable[..., Any]) -> list[Any]:
        if len(data) > 1 and self.may_share(data[0]):
            predictions = attempt(guard, self._together, data)
            if not isinstance(predictions, Failed):
                return list(predictions)
        return [attempt(guard, self._run, datum) for datum in data]

    def _together(self, data: Sequence[Any]) -> list[Any]:
        return self._in_one_pass(Stack(stack(data), list(map(row_count, data)))).parts()

    def _predict(self, data: Stack, guard: Callable[..., Any]) -> list[Any] | Stack:
        if self.shared or self.may_share(data.first()):
            predictions = attempt(guard, self._in_one_pass, data)
            if isinstance(predictions, Stack):
                return predictions
        return [attempt(guard, self._run, datum) for datum in data.parts()]

    def _in_one_pass(self, data: Stack) -> Stack:
        prediction = self._run(data.rows)
        rows_in, rows_out = sum(data.counts), row_count(prediction)
        if rows_in != rows_out:
            raise ValueError(f"{rows_in} rows in, {rows_out} rows out")
        return Stack(prediction, data.counts)

    def may_share(self, datum: Any) -> bool:
        """Whether data of the kind of ``datum`` share a pass; tried if this is not known yet."""
        if self.shared is not None:
            return self.shared
        key = kind(datum)
        if self.tries and key not in self._proven and len(self._proven) < KINDS:
            self._proven[key] = attempt(self.proven, datum) is True
        return self._proven.get(key, False)

    def is_shared(self, datum: Any) -> bool:
        """Whether data of the kind of ``datum`` are known to share a pass."""
        return bool(self.shared if self.shared is not None else self._proven.get(kind(datum)))

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
