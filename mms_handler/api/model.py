"""A model in this process: it loads as in a worker, and answers as a client would see it."""

from __future__ import annotations

import bdb
import contextlib
import os
import shutil
import tempfile
import time
import weakref
from pathlib import Path
from typing import Any, Callable, Iterator, Mapping

from mms_handler import causes, errors, manifest, settings
from mms_handler.client import Answer
from mms_handler.errors import Failed, LoadError, ScriptError, attempt
from mms_handler.request_ids import HEADER, request_id
from mms_handler.schema import Schema

#: Exceptions that end a debugging session or the program.  They do not become a request's fault.
_STOPS = (KeyboardInterrupt, bdb.BdbQuit)


class Model:
    """A model loaded in this process, as a worker of the server loads it.

    Made by ``load``.  Not thread-safe: one call at a time.

    Attributes:
        model: the result of model_fn: a Module, a Block, or an object of the script's.
        load_s: seconds of each phase of loading, by name.
        answer_s: seconds of each step of the latest answer, by the name of its function.
    """

    def __init__(self, folder: Path, loaded: Any, context: Any) -> None:
        self.model, self.load_s = loaded.pipeline.model, dict(loaded.seconds)
        self.answer_s: dict[str, float] = {}
        self._folder, self._pipeline, self._context = folder, loaded.pipeline, context
        self._inference, self._find_schema = loaded.inference, loaded.find_schema
        self._settings = settings.current()
        _time_steps(self._pipeline, self.answer_s)

    @property
    def functions(self) -> dict[str, bool]:
        """The functions that answer a request, by name: whether each is the default."""
        return {hook.name: hook.is_default for hook in self._pipeline.hooks}

    @property
    def schema(self) -> Schema:
        """The names, shapes and types of what the model takes and gives, as far as is known."""
        with _working_in(self._folder):
            schema: Schema = self._find_schema()
        return schema

    @property
    def sample(self) -> tuple[bytes, str, str] | None:
        """The body, Content-Type and Accept of the packed sample request.

        A model without one has a row of zeros in the shapes that the default save wrote, or None.
        """
        from mms_handler.archive import samples

        files = {path.name: path for path in self._folder.iterdir() if path.is_file()}
        request = samples.packed(self._folder) or samples.zeros(files)
        return (request.body, request.entry.content_type, request.entry.accept) if request else None

    def answer(
        self,
        body: bytes | str,
        content_type: str = "application/json",
        accept: str = "*/*",
        *,
        headers: Mapping[str, str] | None = None,
        raises: bool = False,
    ) -> Answer:
        """Answer one request as the server would.

        A request that fails gets the status and the JSON body of its fault.  As in the server, the
        traceback of a script's bug is logged.

        Args:
            body: the request's body; a str is sent as UTF-8.
            content_type: its Content-Type.
            accept: the Accept header.
            headers: further headers of the request.
            raises: whether a step's exception is raised; otherwise the answer has its fault.

        Returns:
            ``status``, ``content_type``, ``headers`` (by lower-case name, without those that the
            connection and MMS itself add) and ``body``.

        Raises:
            Exception: if ``raises``, the exception of the script or of a default function.
        """
        from mms_handler.worker.request import received_by_mms
        from mms_handler.worker.service import respond

        self.answer_s.clear()
        request = attempt(self._request, body, content_type, accept, headers)
        with _working_in(self._folder):
            (reply,) = self._inference.answer(self._pipeline, [request], _run)
        if raises and isinstance(reply, Failed):
            raise reply.exc
        (received,) = received_by_mms([{}], self._context)
        response = respond(received, reply, self._settings.max_response_bytes)
        headers = {name.lower(): value for name, value in response.headers.items()}
        return Answer(response.status, headers, response.body)

    def input_fn(self, body: bytes | str, content_type: str = "application/json") -> Any:
        """Call input_fn alone, the script's or the default.

        Returns:
            The data for predict_fn: the result of the script's input_fn; or, by default, float32
            arrays (N, *sample), one for each input of the model.

        Raises:
            BadInput: the body does not match its type, or input_fn raised ValueError, LookupError
                or TypeError.
            ScriptError: the script has a transform_fn or process_request_fn, which takes the
                request.
        """
        steps = self._steps("input_fn")
        request = self._request(body, content_type)
        with _working_in(self._folder):
            return steps.read(request)

    def predict_fn(self, data: Any) -> Any:
        """Call predict_fn alone, the script's or the default, with a result of input_fn.

        Returns:
            The prediction: the result of the script's predict_fn; or, by default, arrays with N
            rows.

        Raises:
            BadInput: the model does not take the data; from the default predict_fn.
            ScriptError: the script has a transform_fn or process_request_fn, which takes the
                request.
            Exception: from the script.
        """
        steps = self._steps("predict_fn")
        request = self._request(b"", "application/json")
        with _working_in(self._folder):
            return steps.predict(request, data)

    def output_fn(self, prediction: Any, accept: str = "application/json") -> Any:
        """Call output_fn alone, the script's or the default, with a result of predict_fn.

        Returns:
            The result of the script's output_fn; or, by default, the body and its content type.

        Raises:
            NotAcceptable: ``accept`` names no type that the default output_fn can write.
            ScriptError: the script has a transform_fn or process_request_fn, which takes the
                request.
            Exception: from the script.
        """
        steps = self._steps("output_fn")
        request = self._request(b"", "application/json", accept)
        with _working_in(self._folder):
            return steps.output(request, prediction)

    def failure(self, exc: BaseException) -> tuple[int, str, str]:
        """The status of an exception that ``answer`` raised, its reason, and the traceback.

        The reason is what a client gets, with the script's exception that caused it.  Of a bug it
        is what the server's log has, and there is a traceback.
        """
        from mms_handler.worker import faults

        folders = self._context.system_properties["script_folders"]
        fault = errors.fault(exc)
        if fault.status < 500:
            cause = faults.script_cause(exc, folders)
            return fault.status, fault.message + (f"; from {cause}" if cause else ""), ""
        return fault.status, causes.cause(exc, *folders), faults.bug_traceback(exc, *folders)

    def _steps(self, name: str) -> Any:
        whole = self._pipeline.hooks[0].name
        if whole in ("transform_fn", "process_request_fn"):
            raise ScriptError(
                f"{name} cannot be called alone: the script's {whole} takes the request; "
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

        sent = {name.lower(): value for name, value in (headers or {}).items()}
        return request_without_mms(
            self._context,
            body.encode() if isinstance(body, str) else bytes(body),
            content_type,
            accept,
            request_id(sent.get(HEADER)),
            headers=headers,
            max_bytes=self._settings.max_body_bytes,
        )


def load(
    path: str | os.PathLike[str],
    *,
    script: str | os.PathLike[str] | None = None,
    gpu_id: int | None = None,
) -> Model:
    """Load a model in this process, as a worker of the server loads it.

    Breakpoints in the script work.  While the script's code runs, its model_dir is the working
    directory.  This process gets all that a worker sets for its own: variables for MXNet and the
    script (``SM_*``), folders on ``sys.path``, the script in ``sys.modules``.  Load a model only
    once in a process; after you edit its script, start a new process.

    Args:
        path: a folder with artifacts and perhaps ``code/``, a ``.mar``, or a model.tar.gz.
        script: a script, or a folder with one, to use where it lies instead of the model's own.
        gpu_id: the GPU to use, from 0; None: the CPU.

    Raises:
        LoadError: the model does not load; names the phase, the exception and the script's line.
            Or an archive has a handler of its own, and no ``script`` takes its place.
        ArchiveError: the archive is broken, or not safe.
        ScriptError: ``script`` is not a script, or several files could be it.
        OSError: the archive cannot be unpacked.

    Source: the developer guide, "inference code interface".
    """
    from mms_handler import archive

    folder, script = Path(path).resolve(), archive.script_at(Path(script)) if script else None
    if folder.is_dir():
        return _load(folder, script, gpu_id)
    if not folder.is_file():
        raise LoadError(f"model_dir: {path} does not exist; pass a folder or a .mar")
    scratch = tempfile.mkdtemp(prefix="mms-handler-")
    try:
        unpacked, _ = archive.unpack_any(Path(path), Path(scratch))
        model = _load(unpacked, script, gpu_id)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    weakref.finalize(model, shutil.rmtree, scratch, ignore_errors=True)
    return model


def _load(folder: Path, script: Path | None, gpu_id: int | None) -> Model:
    from mms_handler.worker import loading
    from mms_handler.worker.trials import context_of

    handler = None if script else manifest.foreign_handler(folder)
    if handler:
        raise LoadError(
            f"{folder.name} has a handler of its own, {handler}, which only a server runs: serve "
            "it, or check it with --sample; to load its files with a script, name the script"
        )
    context = context_of(folder, gpu_id)
    try:
        with _working_in(folder):
            loaded = loading.load(context, settings.current(), script)
    except LoadError as exc:
        if isinstance(exc.__cause__, _STOPS):
            raise exc.__cause__ from None
        raise
    return Model(folder, loaded, context)


def _time_steps(pipeline: Any, seconds: dict[str, float]) -> None:
    """Measure each step, or the one function that takes the whole request, into ``seconds``."""
    steps = {"read": "input_fn", "predict": "predict_fn", "write": "output_fn"}
    if not hasattr(pipeline, "read"):
        steps = {"answer": ", ".join(hook.name for hook in pipeline.hooks)}
    for method, name in steps.items():
        setattr(pipeline, method, _timed(name, getattr(pipeline, method), seconds))


def _timed(name: str, step: Callable[..., Any], seconds: dict[str, float]) -> Callable[..., Any]:
    def timed(*arguments: Any) -> Any:
        start = time.perf_counter()
        try:
            return step(*arguments)
        finally:
            seconds[name] = time.perf_counter() - start

    return timed


def _run(request: Any, function: Callable[..., Any], *arguments: Any) -> Any:
    """Attempt a step, but let exceptions pass that end the debugger or the program."""
    outcome = attempt(function, *arguments)
    if isinstance(outcome, Failed) and isinstance(outcome.exc, _STOPS):
        raise outcome.exc
    return outcome


@contextlib.contextmanager
def _working_in(folder: Path) -> Iterator[None]:
    """Make ``folder`` the working directory, as in a worker."""
    previous = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(previous)
