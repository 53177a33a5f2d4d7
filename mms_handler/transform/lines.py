"""Answer lines of CSV that are rows of numbers, without a request and a reply for each of them.

What a small model takes for a row is less than what a request takes in Python.
"""

from __future__ import annotations

from typing import Any, Sequence

from mms_handler import codecs, media
from mms_handler.errors import Failed, attempt
from mms_handler.models.arrays import Stack, rows_between
from mms_handler.transform.batching import Ways
from mms_handler.transform.part import Part


class Lines:
    """Answers the lines of a part, each as if it were a request with a row.

    Attributes:
        is_off: whether it never will.
    """

    def __init__(self, pipeline: Any, ways: Ways) -> None:
        """Make one.

        Args:
            pipeline: of a model.
            ways: how many rows are predicted at a time.
        """
        self._pipeline, self._ways = pipeline, ways
        self.is_off = not (pipeline.is_default and pipeline.batches)

    def __call__(self, part: Part, count: int) -> Sequence[bytes] | None:
        """The bodies of the replies to the lines of a part.

        Args:
            part: of lines.
            count: how many lines it has.

        Returns:
            None if the lines must be answered one by one: not all of them are rows of as many
            numbers, or the model does not predict several rows as it does one.
        """
        if self.is_off or media.main_type(part.content_type) != media.CSV:
            return None
        bodies = attempt(self._answered, part, count)
        return None if isinstance(bodies, Failed) else bodies

    def _answered(self, part: Part, count: int) -> Sequence[bytes] | None:
        accept = self._pipeline.written_as(part.accept)
        limit_bytes = self._pipeline.max_stack_bytes
        lines: Any = memoryview(part.data)  # which the core reads as it reads bytes
        read = codecs.decode_together([lines], part.content_type, limit_bytes)
        if read is None or len(read.array) != count:  # a line of white space has no row
            return None
        data = self._pipeline.predictor.stack(read.array, [1] * count)
        if data is None or not self._pipeline.passes.may_share(data.first()):
            return None
        sizes = [read.array[0].nbytes] * count
        return self._ways.run(sizes, lambda start, end: self._batch(data, start, end, accept))

    def _batch(self, data: Stack, start: int, end: int, accept: str) -> Sequence[bytes]:
        """The bodies for some of the rows.

        Raises:
            ValueError: the model does not predict them, or their predictions are not written
                together.
        """
        counts = [1] * (end - start)
        rows = rows_between(data.rows, start, end)
        predictions = self._pipeline.passes(Stack(rows, counts))
        if not isinstance(predictions, Stack):
            raise ValueError("the rows have no prediction together")
        bodies = codecs.encode_together(predictions.rows, counts, accept)
        self.is_off = bodies is None
        if bodies is None:
            raise ValueError("the predictions are not written together")
        return bodies
