"""A model in this process: loaded as a worker loads it, answering as a client would see it."""

from __future__ import annotations

import bdb
import contextlib
import os
import shutil
import tempfile
import uuid
import weakref
from pathlib import Path
from typing import Any, Callable, Iterator, Mapping

from mms_handler import settings
from mms_handler.client import Answer
from mms_handler.errors import Failed, LoadError, ScriptError, attempt

#: What ends a debugging session or the program; it is never a request's fault.
_STOPS = (KeyboardInterrupt, bdb.BdbQuit)


class Model:
    """A model loaded in this process, as a worker of the server loads it.

    Made by ``load``.  Not thread-safe: one call at a time.

    Attributes:
        model: what model_fn returned: a Module, a Block, or any object of the script's.
    """

    def __init__(self, folder: Path, pipeline: Any, context: Any) -> None:
        self.model = pipeline.model
        self._folder, self._pipeline, self._context = folder, pipeline, context
        self._settings = settings.current()

    def answer(
        self,
        body: bytes | str,
        content_type: str = "application/json",
        accept: str = "*/*",
        *,
        headers: Mapping[str, str] | None = None,
        raises: bool = False,
    ) -> Answer:
        """Answer one request, as a client would get it from the server.

        A request that fails gets the status and the JSON body of its fault; the traceback of a
        script's bug is logged, as by the server.

        Args:
            body: the request's body; a str is sent as UTF-8.
            content_type: its Content-Type.
            accept: the Accept header.
            headers: further headers of the request.
            raises: raise what a step raised, instead of answering with its fault.

        Returns:
            ``status``, ``content_type``, ``headers`` (by lower-case name: those of the reply, not
            those of the connection and of MMS itself) and ``body``.

        Raises:
            Exception: with ``raises``, what the script or a default raised.
        """
        from mms_handler.worker.service import set_reply

        request = attempt(self._request, body, content_type, accept, headers)
        with _working_in(self._folder):
            (reply,) = self._pipeline.answer([request], _run)
        if raises and isinstance(reply, Failed):
            raise reply.exc
        reply_body = set_reply(0, reply, self._context, self._settings.max_response_bytes)
        status, _ = self._context.get_response_status(0)
        reply_headers = self._context.get_response_headers(0)
        return Answer(
            status, {name.lower(): value for name, value in reply_headers.items()}, reply_body
        )

    def input_fn(self, body: bytes | str, content_type: str = "application/json") -> Any:
        """Call input_fn alone, the script's or the default.

        Returns:
            What predict_fn takes: for the script's own, what it returned; else arrays, float32,
            (N, *sample), one for each input of the model.

        Raises:
            BadInput: the body is not what its type says, or input_fn raised ValueError,
                LookupError or TypeError.
            ScriptError: a transform_fn or process_request_fn takes the request whole.
        """
        steps = self._steps("input_fn")
        request = self._request(body, content_type)
        with _working_in(self._folder):
            return steps.read(request)

    def predict_fn(self, data: Any) -> Any:
        """Call predict_fn alone, the script's or the default, with what input_fn gave.

        Returns:
            The prediction: for the script's own, what it returned; else arrays with N rows.

        Raises:
            BadInput: the default predict_fn finds that the model does not take the data.
            ScriptError: a transform_fn or process_request_fn takes the request whole.
            Exception: the script's own.
        """
        steps = self._steps("predict_fn")
        request = self._request(b"", "application/json")
        with _working_in(self._folder):
            return steps.predict(request, data)

    def output_fn(self, prediction: Any, accept: str = "application/json") -> Any:
        """Call output_fn alone, the script's or the default, with what predict_fn gave.

        Returns:
            What the script's own returned; else the body and its content type.

        Raises:
            NotAcceptable: the default output_fn writes no type that ``accept`` names.
            ScriptError: a transform_fn or process_request_fn takes the request whole.
            Exception: the script's own.
        """
        steps = self._steps("output_fn")
        request = self._request(b"", "application/json", accept)
        with _working_in(self._folder):
            return steps.output(request, prediction)

    def _steps(self, name: str) -> Any:
        whole = self._pipeline.hooks[0].name
        if whole in ("transform_fn", "process_request_fn"):
            raise ScriptError(
                f"there is no {name} to call: the script's {whole} takes the request whole; "
                "call answer instead"
            )
        return self._pipeline

    def _request(
        self,
        body: bytes | str,
        content_type: str,
        accept: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        from mms_handler.worker.request import request_without_mms

        return request_without_mms(
            self._context,
            body.encode() if isinstance(body, str) else bytes(body),
            content_type,
            accept,
            str(uuid.uuid4()),
            headers=headers,
            max_bytes=self._settings.max_body_bytes,
        )


def load(path: str | os.PathLike[str], *, gpu_id: int | None = None) -> Model:
    """Load a model in this process, as a worker of the server loads it.

    A breakpoint in the script stops there.  While code of the script runs, its model_dir is the
    working directory.  What a worker sets for its process is set for this one: variables for
    MXNet and the script (``SM_*``), folders on ``sys.path``, the script in ``sys.modules``.  Load
    a model once in a process; a script that was edited needs a new process.

    Args:
        path: a folder with artifacts and perhaps ``code/``, or a ``.mar``.
        gpu_id: the GPU to use, from 0; None: the CPU.

    Raises:
        LoadError: the model does not load; names the phase, the exception and the script's line.
        ArchiveError: the ``.mar`` is broken, or not safe.
        OSError: the ``.mar`` cannot be unpacked.

    Source: the developer guide, "inference code interface".
    """
    folder = Path(path).resolve()
    if folder.is_dir():
        return _load(folder, gpu_id)
    if not folder.is_file():
        raise LoadError(f"model_dir: {path} does not exist; pass a folder or a .mar")
    from mms_handler import archive

    scratch = tempfile.mkdtemp(prefix="mms-handler-")
    try:
        unpacked = Path(scratch) / folder.stem
        archive.unpack(folder, unpacked)
        model = _load(unpacked, gpu_id)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    weakref.finalize(model, shutil.rmtree, scratch, ignore_errors=True)
    return model


def _load(folder: Path, gpu_id: int | None) -> Model:
    from mms_handler.worker import loading
    from mms_handler.worker.trials import context_of

    context = context_of(folder, gpu_id)
    try:
        with _working_in(folder):
            loaded = loading.load(context, settings.current())
    except LoadError as exc:
        if isinstance(exc.__cause__, _STOPS):
            raise exc.__cause__ from None
        raise
    return Model(folder, loaded.pipeline, context)


def _run(request: Any, function: Callable[..., Any], *arguments: Any) -> Any:
    """Attempt a step; leave a debugger or the program when the user ends it."""
    outcome = attempt(function, *arguments)
    if isinstance(outcome, Failed) and isinstance(outcome.exc, _STOPS):
        raise outcome.exc
    return outcome


@contextlib.contextmanager
def _working_in(folder: Path) -> Iterator[None]:
    """Make ``folder`` the working directory, as it is a worker's."""
    previous = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(previous)
