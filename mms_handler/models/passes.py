"""Several requests' data in one pass: stacked, run once, and each given its own rows back.

    data ─kind─▶ those alike ─stack─▶ one ─run─▶ prediction ─apart─▶ a prediction for each

A pass is shared only where it was seen that each gets what it gets alone.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import Any, Callable, Hashable, Iterator, Sequence

from mms_handler.errors import Failed, attempt
from mms_handler.models.arrays import kind, leaves, rows, split_rows, stack
from mms_handler.models.evidence import agree, pairs

#: Bytes of one stack; what is more goes into another.
STACK_BYTES = 2**26

#: Of how many kinds the answer is remembered; data of any other are run alone.
KINDS = 64


def _call(func: Callable[..., Any], *args: Any) -> Any:
    return func(*args)


class Passes:
    """Runs data in as few passes as give each what it gets alone."""

    def __init__(self, run: Callable[[Any], Any], shared: bool | None) -> None:
        """Share a pass always, never, or (None) where data of a kind are seen to allow it.

        Args:
            run: data to prediction.
            shared: None: it is tried when data of a new kind meet, with values like theirs.
        """
        self._run, self.shared = run, shared
        self._seen: dict[Hashable, bool] = {}

    def __call__(self, data: Sequence[Any], guard: Callable[..., Any] = _call) -> list[Any]:
        """For each its prediction, or Failed; in their order.

        Args:
            data: of the requests.
            guard: calls what runs the model.
        """
        found: dict[int, Any] = {}
        for places in self._stacks(data):
            found.update(zip(places, self._outcomes([data[place] for place in places], guard)))
        return [found[place] for place in range(len(data))]

    def _stacks(self, data: Sequence[Any]) -> Iterator[list[int]]:
        """Places of data that may share a pass, no stack larger than STACK_BYTES."""
        alike: dict[Hashable, list[int]] = {}
        held: Counter[Hashable] = Counter()
        for place, datum in enumerate(data):
            key = None if self.shared is False else kind(datum)
            if key is None:
                yield [place]
                continue
            held[key] += _bytes(datum)
            if key in alike and held[key] > STACK_BYTES:
                yield alike.pop(key)
                held[key] = _bytes(datum)
            alike.setdefault(key, []).append(place)
        yield from alike.values()

    def _outcomes(self, data: Sequence[Any], guard: Callable[..., Any]) -> list[Any]:
        if len(data) > 1 and self.may_share(data[0]):
            together = attempt(guard, self._together, data)
            if not isinstance(together, Failed):
                return list(together)
        return [attempt(guard, self._run, one) for one in data]

    def _together(self, data: Sequence[Any]) -> list[Any]:
        return split_rows(self._run(stack(data)), [rows(one) for one in data])

    def may_share(self, datum: Any) -> bool:
        """Whether data like this one are run in one pass."""
        if self.shared is not None:
            return self.shared
        key = kind(datum)
        if key not in self._seen and len(self._seen) < KINDS:
            self._seen[key] = attempt(self.proven, datum) is True
        return self._seen.get(key, False)

    def proven(self, datum: Any) -> bool:
        """Whether data like this one are seen to get together what they get alone."""
        shown = False
        for data, conclusive in pairs(datum):
            same = self._agree(data)
            if same is False or (same and conclusive):
                return same
            shown = shown or same is True
        return shown

    def _agree(self, data: Sequence[Any]) -> bool | None:
        """As ``agree``; None where made-up values are not to be run at all."""
        alone = [attempt(self._run, one) for one in data]
        if any(isinstance(one, Failed) for one in alone):
            return None
        same = attempt(lambda: agree(alone, self._together(data)))
        return False if isinstance(same, Failed) else same


def _bytes(datum: Any) -> int:
    return sum(4 * math.prod(one.shape) for one in leaves(datum))
