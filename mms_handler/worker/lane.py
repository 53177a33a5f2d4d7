"""Answer plain batches in the compiled core, from the gate's frame to the frame with the replies.

    frame ──▶ numbers of all bodies ──▶ output of a bound executor ──▶ frame

A batch is plain if the default functions serve all of it, its heads ask for one pair of types, its
bodies hold rows of numbers, and the present way has answered such rows before.  What the lane
sends is what that way sends, to the last byte.  Of any other batch it says nothing, also of one
with a wrong body, and nothing has been sent: the present way answers it, and knows the errors.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, NamedTuple, Sequence, Tuple

import numpy as np

from mms_handler import media, models
from mms_handler.codecs import compiled
from mms_handler.errors import attempt
from mms_handler.worker.mms.current_requests import CurrentRequests
from mms_handler.worker.phases import DECODE, ENCODE, PREDICT
from mms_handler.worker.pipeline import Steps
from mms_handler.worker.request import as_sent

#: What the core reads and writes; the places are the numbers of its readers and writers.
_READ, _WRITTEN = (media.JSON, media.CSV, media.NPY), (media.JSON, media.CSV)

#: What heads ask for, and which rows came, that is remembered.
_FORMS, _SAMPLES = 64, 1_000

#: After so many batches in turn that were not for the lane, only one in so many is tried: reading
#: bodies that the present way reads again takes time.
_PATIENCE, _RARELY = 8, 32

Shape = Tuple[int, ...]


class Form(NamedTuple):
    """What the heads of a batch ask for, for the core."""

    reader: int
    writer: int
    head: bytes  # of each reply


class Replies(NamedTuple):
    """Replies to a batch."""

    requests: int
    frame: bytearray  # with room for its start


class Lane:
    """The quick way of one model."""

    def __init__(
        self,
        steps: Steps,
        head: Callable[[str], bytes],
        start_bytes: int,
        max_bytes: int,
        current: CurrentRequests,
    ) -> None:
        """Make one for a pipeline that runs no function of a script.

        Args:
            steps: the pipeline, which is the present way.
            head: makes the head of a good reply of a content type.
            start_bytes: that precede the replies in their frame.
            max_bytes: limit of a reply's body.
            current: keeps the ids of the requests.
        """
        self._steps, self._phases, self._head = steps, steps.phases, head
        self._start_bytes, self._max_bytes, self._current = start_bytes, max_bytes, current
        self._forms: Dict[bytes, Form | None] = {}
        self._samples: Dict[Any, Shape] = {}
        self._misses = 0  # batches since the last one that was answered

    def answer(self, frame: memoryview) -> Replies | None:
        """Answer a frame's requests; None if they are not plain."""
        self._misses += 1
        if self._misses > _PATIENCE and self._misses % _RARELY:
            return None
        replies = attempt(self._answer, frame)
        self._current.clear()
        if isinstance(replies, Replies):
            self._misses = 0
            return replies
        self._phases.enter(DECODE)  # the present way begins
        return None

    def _answer(self, frame: memoryview) -> Replies | None:
        limit_bytes, core = self._steps.max_stack_bytes, compiled.core
        read = core.read_requests(frame, self._forms, limit_bytes, self._current.memory)
        if read is None:
            return None
        form, numbers, counts, inner = read
        self._phases.enter(PREDICT)
        shape = self._shape(counts, inner)
        output = shape and self._steps.predictor.quick(shape, numbers)
        if not output or not shape or output[1][:1] != shape[:1]:
            return None
        self._phases.enter(ENCODE)
        written = core.write_replies(
            *output, counts, form.writer, form.head, self._max_bytes, self._start_bytes
        )
        return None if written is None else Replies(len(counts), written)

    def _shape(self, counts: Sequence[int], inner: Shape) -> Shape | None:
        """The shape in which the rows of all bodies reach the model; None if that is not known."""
        several, sizes = len(counts) > 1, sorted(set(counts))
        key = (several, inner, *sizes)
        sample = self._samples.get(key)
        if sample is None:
            sample = self._sample(sizes, inner)
            if sample is None or (several and not self._may_share(sample)):
                return None
            if len(self._samples) < _SAMPLES:
                self._samples[key] = sample
        return (sum(counts), *sample)

    def _sample(self, sizes: Sequence[int], inner: Shape) -> Shape | None:
        """The shape of one row for the model, if bodies of these numbers of rows came before."""
        fitted = [self._steps.predictor.fitted((rows, *inner)) for rows in sizes]
        samples = {
            shape[1:] if shape and shape[0] == rows else None for shape, rows in zip(fitted, sizes)
        }
        return samples.pop() if inner and len(samples) == 1 else None

    def _may_share(self, sample: Shape) -> bool:
        row = models.Arrays([np.empty((1, *sample), np.float32)])
        return bool(self._steps.passes.is_shared(row))

    def learn(self, content_type: str, accept: str, encoding: str) -> None:
        """Remember what these headers ask for, as the gate sent them: an answer went out."""
        key = f"{content_type}\n{accept}\n{encoding}\n".encode("latin-1")
        if key not in self._forms and len(self._forms) < _FORMS:
            self._forms[key] = None if encoding else self._form(content_type, accept)

    def _form(self, content_type: str, accept: str) -> Form | None:
        sent = as_sent(content_type) or media.JSON
        read, charset = media.main_type(sent), media.charset(sent)
        written = attempt(self._steps.written_as, as_sent(accept))
        if read not in _READ or written not in _WRITTEN:
            return None
        if read != media.NPY and charset not in ("", "utf-8", "utf8"):
            return None
        return Form(_READ.index(read), _WRITTEN.index(written), self._head(written))
