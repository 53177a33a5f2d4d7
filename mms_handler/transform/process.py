"""The process that has a model: it answers the records of parts until its pipe closes."""

from __future__ import annotations

import os
import signal
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Mapping, NamedTuple, Sequence

from mms_handler import causes, errors, manifest, settings
from mms_handler.errors import Failed, HandlerError, LoadError, attempt
from mms_handler.processes import die_with_parent
from mms_handler.quiet import quiet_process
from mms_handler.transform.answering import Answering, Failure, Query
from mms_handler.transform.batching import Ways
from mms_handler.transform.handover import receive
from mms_handler.transform.lines import Lines
from mms_handler.transform.part import Options, Part
from mms_handler.worker.reply import Reply
from mms_handler.worker.request import Request, request_read_by_us

#: Bodies from which may be learned, until one succeeds.
_LESSONS = 3

#: What the default functions take of a request beside its body and its types.
_NOTHING: Mapping[str, Any] = {}


class Setup(NamedTuple):
    """What a process needs to begin.

    Attributes:
        model_dir: the unpacked model.
        script: a script that is not in it; None: its own.
        options: of the job.
        variables: of the environment, such as the number of threads.
        parent: the id of the process that the model's process must not outlive.
    """

    model_dir: Path
    script: Path | None
    options: Options
    variables: Mapping[str, str]
    parent: int


def main(connection: Connection, setup: Setup) -> None:
    """Load the model; send "" or why it does not load; then a done part for each part."""
    die_with_parent(setup.parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group
    os.dup2(2, 1)  # what a script prints is not the command's output
    quiet_process()
    for name, value in setup.variables.items():
        settings.export(name, value)
    try:
        os.chdir(setup.model_dir)
        model = LoadedModel(setup)
        answering = Answering(setup.options, model.ask, model.ask_lines)
    except HandlerError as exc:
        traceback = exc.traceback if isinstance(exc, LoadError) else ""
        connection.send((str(exc), traceback))
        return
    connection.send(("", ""))
    while True:
        try:
            part = receive(connection)
        except EOFError:
            return
        connection.send(answering.process(part))


class LoadedModel:
    """A model, loaded as a worker of the server loads it."""

    def __init__(self, setup: Setup) -> None:
        """Load it.

        Raises:
            LoadError: it does not load.
        """
        from mms_handler.worker import loading  # the parts of mxnet are imported here
        from mms_handler.worker.trials import context_of

        self._context = context_of(setup.model_dir)
        self._pipeline = loading.load(self._context, settings.current(), setup.script).pipeline
        self._folders = self._context.system_properties["script_folders"]
        self._lessons = _lessons(setup.model_dir, self._pipeline)
        self._ways = Ways(settings.current().optimize != "off")
        self._lines = Lines(self._pipeline, self._ways)

    def ask(self, query: Query) -> Sequence[Reply | Failure]:
        """Answer bodies, as many of them together as is fastest."""
        if self._lessons:
            self._learn(query)
        sizes = list(map(len, query.bodies))
        return self._ways.run(sizes, lambda start, end: self._ask_batch(query, start, end))

    def ask_lines(self, part: Part, count: int) -> Sequence[bytes] | None:
        """Answer the lines of a part at once; see Lines."""
        return None if self._lessons else self._lines(part, count)

    def _learn(self, query: Query) -> None:
        """Find faster graphs with the first body, as at a load with a packed sample."""
        from mms_handler import models
        from mms_handler.worker import sample

        self._lessons -= 1
        request = Request(query.bodies[0], query.content_type, query.accept, _NOTHING)
        with models.recorded_calls(models.blocks(self._pipeline.model)) as calls:
            (reply,) = self._pipeline.answer([request])
        if not isinstance(reply, Failed):
            self._lessons = 0
            data = self._pipeline.read(request)
            attempt(sample.try_faster, self._pipeline, data, calls)

    def _ask_batch(self, query: Query, start: int, end: int) -> Sequence[Reply | Failure]:
        """Answer some of the bodies."""
        bodies = query.bodies[start:end]
        if self._pipeline.is_default:
            types = query.content_type, query.accept
            requests = [Request(body, *types, _NOTHING) for body in bodies]
            replies: Sequence[Any] = self._pipeline.answer(requests)
            if not any(isinstance(reply, Failed) for reply in replies):
                return replies
        else:
            requests = [
                request_read_by_us(self._context, body, query.content_type, query.accept)
                for body in bodies
            ]
            replies = self._pipeline.answer(requests)
        return [self._reply(*each) for each in zip(requests, replies)]

    def _reply(self, request: Request, reply: Any) -> Reply | Failure:
        if isinstance(reply, Failed):
            fault = errors.fault(reply.exc)
            is_bug = fault.status >= 500
            text = causes.cause(reply.exc, *self._folders) if is_bug else fault.message
            return Failure(fault.status, text or fault.phrase)
        status, body = reply.status, reply.body
        processor = getattr(request.by_name, "processor", None)
        if processor and status == 200:  # the script may have set it
            status = processor.get_response_status_code() or 200
        if status >= 400:
            return Failure(status, body.decode("utf-8", "replace") or f"the script sent {status}")
        return Reply(body, reply.content_type, status)


def _lessons(model_dir: Path, pipeline: Any) -> int:
    """From how many bodies at most faster graphs may be learned; 0: that is done, or of no use.

    Only where no function of the script is called for a body: it is answered twice.
    """
    from mms_handler import models

    is_off = settings.current().optimize == "off"
    if is_off or not pipeline.is_default or not models.blocks(pipeline.model):
        return 0
    return 0 if manifest.read_sample(model_dir) else _LESSONS
