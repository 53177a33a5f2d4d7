"""MMS's calls: load a model, or answer a batch of requests with as many replies.

MMS calls ``handle(None, context)`` when a worker loads its model and
``handle([request, ...], context)`` for each batch.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import sys
import time
from pathlib import Path
from typing import Any, Callable, Sequence

from mms_handler import errors, names, settings, worker_files
from mms_handler.codecs import compiled
from mms_handler.errors import Failed, LoadError, OutOfResources, SettingsError, attempt
from mms_handler.log_records import log_with_traceback
from mms_handler.settings import Settings
from mms_handler.worker import faults, tracing
from mms_handler.worker.mms import bodies, fork_server, lifeline, memory, plane, reply_frame
from mms_handler.worker.mms.current_requests import CurrentRequests
from mms_handler.worker.mms.deadline import Deadline
from mms_handler.worker.mms.metrics import Metrics
from mms_handler.worker.mms.output import Output
from mms_handler.worker.reply import HeadedReply, Response
from mms_handler.worker.request import Received, Request, received_by_mms

log = logging.getLogger(__name__)


class Service:
    """One model in one worker process.

    MMS gets it as a function, not as a class with ``initialize``: MMS logs and drops what
    ``initialize`` raises (mms/model_loader.py:147-154), so a model that failed to load would be
    registered and answer 200.
    """

    def __init__(self, load: Callable[[Any, Settings], Any]) -> None:
        """``load`` takes MMS's context and our settings, and returns a Loaded."""
        self._load = load
        self._context: Any = None  # with which the model was loaded
        self._learning: Any = None
        self._lane: Any = None
        self._tagged = ""  # the id that output has
        self._tracing: Any = None
        self._step = self._run

    def __call__(self, batch: list[dict[str, Any]] | None, context: Any) -> list[bytes] | None:
        """Load the model if ``batch`` is None, else answer each request of the batch."""
        if batch is None:
            self._start(context)
            return None
        responses = self.answer(received_by_mms(batch, context))
        for index, response in enumerate(responses):
            reply_frame.set_head(index, response, context)
        replies = [response.body for response in responses]
        reply_frame.shape(context, replies)
        return replies

    def answer(self, batch: Sequence[Received]) -> list[Response]:
        """Answer requests within their time; the lifeline knows that the worker is busy.

        A request that cannot be read becomes a Failed, which the pipeline hands on.
        """
        with self._deadline, self._lifeline:
            self._current.set(received.request_id for received in batch)
            try:
                max_bytes = self._settings.max_body_bytes
                requests = [attempt(received.read, max_bytes) for received in batch]
                answering = self._learning or self._pipeline
                replies = self._inference.answer(answering, requests, self._step)
                return [self._respond(*each) for each in zip(batch, replies)]
            finally:
                self._current.clear()
                self._output.tag("")
                self._tagged = ""

    def _trace(self, model: str) -> None:
        """Make spans of requests, if they are wanted; no process has a thread for them yet."""
        self._tracing = tracing.prepared(model) if self._settings.supervised else None
        if self._tracing:
            self._step = self._tracing.step(self._run)

    def _learn(self) -> None:
        """Go on with what the requests so far have taught; no request is being answered."""
        if self._learning:
            self._learning.go_on()
            if self._learning.is_over:
                self._learning = None

    def _usable_lane(self) -> Any:
        """The lane that a batch may take now; requests that teach something go the present way."""
        return None if self._learning else self._lane

    def _takes(self) -> int:
        """How many requests this worker takes at once."""
        batches = self._settings.batch_size or self._pipeline.batches
        return self._settings.max_batch_size if batches else 1

    def _run(self, request: Any, function: Callable[..., Any], *arguments: Any) -> Any:
        """Attempt a step before the batch's deadline; tag its output with its request's id."""
        self._tag(request.by_name["request_id"] if isinstance(request, Request) else "")
        return attempt(self._deadline.call, function, *arguments)

    def _tag(self, request_id: str) -> None:
        """Add this request's id to all output from now on, if it was another one's."""
        if request_id != self._tagged:
            self._output.tag(request_id)
            self._tagged = request_id

    def _respond(self, received: Received, reply: Any) -> Response:
        if isinstance(reply, Failed) or not self._pipeline.is_default:  # there may be log lines
            self._tag(received.request_id)
        return respond(received, reply, self._settings.max_response_bytes)

    def _start(self, context: Any) -> None:
        """Make this process a worker: load the model, or have it from the process that forked it.

        If this is the first process of the model, its workers are forked here.
        """
        is_forked = fork_server.has_model
        if not is_forked:
            self._output = Output(context.model_name, _log_settings())
        self._current = CurrentRequests(None)
        connection = lifeline.attach()
        if connection and not is_forked:
            self._output.clean()
        self._lifeline = connection or contextlib.nullcontext()
        context.metrics = Metrics(context.metrics, None)
        context.model_name = names.of_model(context.model_name)  # MMS's has the version
        bodies.keep_undecoded()
        supervised = False
        try:
            self._settings = settings.current()
            supervised = self._settings.supervised
            if is_forked:
                _continue(self._context, context)
            else:
                self._deadline = Deadline(self._settings.timeout_s)
                self._trace(context.model_name)
                fork_server.begin(self._settings, context.system_properties["gpu_id"])
                with self._lifeline:
                    loaded = self._load(context, self._settings)
                self._pipeline, self._learning = loaded.pipeline, loaded.learning
                self._request_s = loaded.request_s
                self._inference = loaded.inference
                gc.collect()
                gc.freeze()  # the model stays: later collections need not look through it
                self._context = context
                if connection and not fork_server.share(connection, lifeline.worker()):
                    memory.trim()
                    memory.unmap_files()
            self._output.renew()
            self._learn()
            if supervised:
                folder = Path(context.system_properties["model_dir"])
                self._current = CurrentRequests(worker_files.requests_path(folder, os.getpid()))
            if connection:
                connection.limit(self._settings.timeout_s)
            if connection and supervised:
                answer, phases = self.answer, self._pipeline.phases
                if self._tracing:
                    self._tracing.start()
                    answer = self._tracing.answering(answer, phases)
                else:
                    self._lane = self._make_lane()
                plane.join(
                    *(answer, self._takes, context, connection, phases),
                    between=self._learn,
                    request_s=self._request_s,
                    lane=self._usable_lane,
                )
        except BaseException as exc:
            # MMS stops reading the log as soon as the worker dies, hence the pause.
            reason = " ".join(str(exc).split())
            traceback = exc.traceback if isinstance(exc, LoadError) else ""
            text = f"cannot load model {context.model_name}: {reason}"
            log_with_traceback(log, logging.ERROR, text, traceback)
            sys.stdout.flush()
            time.sleep(0.1)
            if supervised:
                worker_files.write_load_error(Path(context.system_properties["model_dir"]), reason)
            if supervised and errors.out_of_memory(exc.__cause__ or exc):
                # MMS answers 507 and keeps the model's name; its supervisor, serve, frees it.
                raise MemoryError(str(exc)) from exc
            raise
        log.info("model %s is loaded", context.model_name)

    def _make_lane(self) -> Any:
        """The lane of a model for which no function of a script runs; None without the core."""
        if compiled.core is None or not self._pipeline.is_default:
            return None
        from mms_handler.worker.lane import Lane  # imports mxnet

        limits = plane.START_BYTES, self._settings.max_response_bytes
        return Lane(self._pipeline, plane.good_head, *limits, self._current)


def _log_settings() -> Settings:
    """The settings for the log; the defaults if some are invalid, which the load says."""
    try:
        return settings.current()
    except SettingsError:
        return Settings()


def _continue(earlier: Any, context: Any) -> None:
    """Let MMS's context with which a model was loaded, and which its script may have, be another.

    What the load has added to its properties stays.
    """
    for name, value in earlier.system_properties.items():
        context.system_properties.setdefault(name, value)
    earlier.__dict__ = context.__dict__


def respond(received: Received, reply: Any, max_bytes: int) -> Response:
    """The response to a request.

    Args:
        received: the request.
        reply: a Reply, a HeadedReply or a Failed.
        max_bytes: limit of a body; MMS kills the worker for a larger one.
    """
    if not isinstance(reply, Failed) and len(reply.body) > max_bytes:
        text = f"the reply has {len(reply.body)} bytes, the server sends at most {max_bytes}"
        reply = Failed(OutOfResources(text))
    if isinstance(reply, Failed):
        return faults.response(reply.exc, received)
    status, phrase, headers = reply.status, None, None
    if isinstance(reply, HeadedReply):
        return reply_frame.response(reply.body, reply.content_type, status, None, reply.headers)
    processor = received.processor
    if processor:  # the script may have set them
        phrase, headers = processor.get_response_status_phrase(), processor.get_response_headers()
        status = status if status != 200 else processor.get_response_status_code()
    return reply_frame.response(reply.body, reply.content_type, status, phrase, headers)
