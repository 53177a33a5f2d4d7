"""An executor for the tests of jobs: it doubles numbers, in this process, as it is told to."""

from __future__ import annotations

import contextlib
import json

from mms_handler.transform.answering import Answering, Failure
from mms_handler.transform.part import Options
from mms_handler.transform.run import Ready, Target, transform
from mms_handler.worker.reply import Reply

LINES = Options(split_type="Line", assemble_with="Line", content_type="application/json")


def double(query):
    replies = []
    for body in query.bodies:
        try:
            replies.append(Reply(json.dumps(2 * json.loads(body)).encode(), "application/json"))
        except ValueError:
            replies.append(Failure(400, "not JSON"))
    return replies


class Doubling:
    """Processes parts.

    Attributes:
        parts: all that were processed, as (input, number).
        held_back: how many parts are cut before the first one is done; they are done in reverse.
        before: called with each part.
    """

    def __init__(self, options=LINES, held_back=1, before=lambda part: None):
        self._answering = Answering(options, double)
        self.parts, self.held_back, self.before = [], held_back, before

    def __call__(self, parts):
        held = []
        for part in parts:
            held.append(part)
            if len(held) == self.held_back:
                yield from self._process(held)
        yield from self._process(held)

    def _process(self, held):
        while held:
            part = held.pop()
            self.before(part)
            self.parts.append((part.input, part.number))
            yield self._answering.process(part)


def run(executor, source, output, *, options=LINES, model="model", **others):
    """Run a job; returns its report."""
    place = {
        name: others.pop(name) for name in ("overwrite", "state", "is_manifest") if name in others
    }
    ready = contextlib.nullcontext(Ready(model, executor))
    return transform(ready, Target(str(source), str(output), **place), options, **others)
