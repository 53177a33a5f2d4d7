"""MMS's ``context.metrics``, corrected: a script's metrics become lines that the front end reads.

MMS's own store loses the dimensions of everything except counters, and fails without a unit
(metrics_store.py:131-209).  Its front end logs ``null`` for names and values that do not match its
pattern (Metric.java:24-26).
"""

from __future__ import annotations

import logging
import math
import operator
import re
from decimal import Decimal
from typing import Any, Optional, Tuple

from mms.metrics.dimension import Dimension
from mms.metrics.metric import Metric

log = logging.getLogger(__name__)

#: Name, unit, and dimensions: what makes two values the same metric.
_Key = Tuple[str, Optional[str], Tuple[Tuple[str, str], ...]]


class Metrics:
    """MMS's MetricsStore for the script of one request.

    A metric that cannot be sent is left out, with a line in the log.  ``idx`` is ignored: all
    metrics belong to the one request and carry its id.
    """

    def __init__(self, store: Any, request_id: Any) -> None:
        """``store`` is MMS's MetricsStore for the whole batch; metrics are added to it."""
        self._store, self._request_id = store, request_id and _text(request_id)
        self._metrics: dict[_Key, tuple[Any, float]] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def add_counter(self, name: Any, value: Any, idx: Any = None, dimensions: Any = None) -> None:
        """Add ``value`` to the counter."""
        self._add(name, value, "count", dimensions, counter=True)

    def add_time(
        self, name: Any, value: Any, idx: Any = None, unit: Any = "ms", dimensions: Any = None
    ) -> None:
        self._add(name, value, unit, dimensions)

    def add_size(
        self, name: Any, value: Any, idx: Any = None, unit: Any = "MB", dimensions: Any = None
    ) -> None:
        self._add(name, value, unit, dimensions)

    def add_percent(self, name: Any, value: Any, idx: Any = None, dimensions: Any = None) -> None:
        self._add(name, value, "percent", dimensions)

    def add_metric(
        self, name: Any, value: Any, idx: Any = None, unit: Any = None, dimensions: Any = None
    ) -> None:
        self._add(name, value, unit, dimensions)

    def add_error(self, name: Any, value: Any, dimensions: Any = None) -> None:
        self._add(name, value, None, dimensions, level="Error")

    def _add(
        self,
        name: Any,
        value: Any,
        unit: Any,
        dimensions: Any,
        counter: bool = False,
        level: str = "Model",
    ) -> None:
        try:
            pairs = [(_word(item.name), _text(item.value)) for item in dimensions or ()]
            pairs += [("ModelName", _text(self._store.model_name))] if level == "Model" else []
            key = (_word(name), _word(unit) if unit else None, (*pairs, ("Level", level)))
            self._put(key, _number(value), counter)
        except Exception as exc:  # a request does not fail because of its metrics
            log.warning("metric %.100r left out: %s", name, exc)

    def _put(self, key: _Key, number: float, counter: bool) -> None:
        name, unit, dimensions = key
        if key not in self._metrics:
            pairs = [Dimension(*pair) for pair in dimensions]
            self._metrics[key] = Metric(name, "", unit, pairs, self._request_id), 0
            self._store.store.append(self._metrics[key][0])
        metric, total = self._metrics[key]
        total = total + number if counter else number
        # In plain digits: the front end reads no exponent with a sign.
        metric.value = format(Decimal(repr(total)), "f")
        self._metrics[key] = metric, total


def _number(value: Any) -> float:
    try:
        return int(operator.index(value))
    except TypeError:
        pass
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{number} is not finite")
    return number


def _word(text: Any) -> str:
    return re.sub(r"\W", "_", str(text), flags=re.ASCII) or "_"


def _text(value: Any) -> str:
    """``value`` without the characters that separate dimensions, and without line ends."""
    return "".join("_" if c in ",:|#" or not c.isprintable() else c for c in str(value))
