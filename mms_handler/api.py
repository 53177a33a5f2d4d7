"""The public Python API, behind ``import mms_handler``: load, pack, serve and train.

It runs what the command ``mms-handler`` runs.
"""

from __future__ import annotations

import bdb
import contextlib
import logging
import os
import shutil
import tempfile
import uuid
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Iterator, Mapping, Sequence

from mms_handler import settings
from mms_handler.client import Answer
from mms_handler.errors import Failed, LoadError, ScriptError, attempt

if TYPE_CHECKING:
    from mms_handler.server import Server

log = logging.getLogger(__name__)

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


# --- pack, serve, train ----------------------------------------------------------------------


def pack(
    model_dir: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    script: str | os.PathLike[str] | None = None,
    sample: str | os.PathLike[str] | None = None,
    content_type: str | None = None,
    accept: str = "*/*",
    calibration: str | os.PathLike[str] | None = None,
    min_agreement: float = 0.95,
    force: bool = False,
) -> Path:
    """Check a model and its script in a process of its own, and write them as ``.mar``.

    Args:
        model_dir: folder with the artifacts, and the script in ``code/`` if it has one.
        target: the ``.mar`` to write; its stem is the model's name.
        script: a script, or a folder with one, to pack instead of ``code/``.
        sample: a file with a request to pack.  Workers answer it before they are ready.  None:
            the first request of ``calibration``, else zeros in the shapes that the default save
            wrote, if it did.
        content_type: of the sample and of the calibration requests; None: from their suffixes.
        accept: the Accept header of the sample.
        calibration: a folder of typical requests, a file each: an int8 graph is made of them and
            packed too.  None packs none.
        min_agreement: the share of predictions, from 0 to 1, that the int8 graph must not change.
        force: replace ``target`` if it exists.

    Returns:
        ``target``.

    Raises:
        ArchiveError: the model does not load, does not answer the sample or cannot be quantized;
            or ``target`` exists.  ``target`` is then unchanged.
        ScriptError: several files could be the script.
    """
    from mms_handler import archive

    options: dict[str, Any] = {"sample": Path(sample) if sample else None}
    if calibration:
        requests = archive.calibration_requests(Path(calibration), content_type)
        options = {
            "sample": options["sample"] or requests[0].path,
            "quantizer": lambda folder: archive.quantize(folder, requests, min_agreement),
        }
    return archive.pack(
        Path(model_dir),
        Path(target),
        code=Path(script) if script else None,
        program=settings.current().program,
        content_type=content_type,
        accept=accept,
        force=force,
        trial=archive.try_sample,
        **options,
    )


@contextlib.contextmanager
def serve(
    *paths: str | os.PathLike[str],
    host: str | None = None,
    port: int | None = None,
    management_port: int | None = None,
    workers: int | None = None,
    batch_size: int | None = None,
    timeout_s: int | None = None,
    keep_going: bool | None = None,
    log: Callable[[str], None] = log.info,
) -> Iterator[Server]:
    """Serve models for the length of a ``with`` block.

    An argument that is None has the value of its variable, else the default (docs/settings.md).

    Args:
        paths: archives, model.tar.gz files and folders; each model is named after its file.
        host: the address to listen on; by default 127.0.0.1.
        port: for clients; by default 8080.
        management_port: for registering models, on 127.0.0.1; by default 8081.
        workers: processes of each model; by default as many as fit into the machine.
        batch_size: limit of the requests that a worker gets at once; by default 32 for models that
            can batch, else 1.
        timeout_s: seconds for one request, and for loading a model; by default 60.
        keep_going: serve the other models if one cannot load.
        log: called with each line that MMS and the workers print, from a thread; by default they
            are logged at INFO.

    Yields:
        The server, once every model is loaded: ``server.url``, ``server.predictions_url(name)``.
        No process of it is left after the block.

    Raises:
        ArchiveError: a path is no archive or model folder, or is not safe.
        ServerError: no Java, a port in use, MMS ended, or a model cannot be loaded.
        SettingsError: a variable has an invalid value.
    """
    from mms_handler import server

    arguments = {
        "host": host,
        "port": port,
        "management_port": management_port,
        "workers": workers,
        "batch_size": batch_size,
        "timeout_s": timeout_s,
        "keep_going": keep_going,
    }
    options = {name: value for name, value in arguments.items() if value is not None}
    effective = settings.effective(settings.environment(), options)
    with server.serve(list(map(Path, paths)), effective.settings, log=log) as running:
        yield running


def train(
    entry_point: str | None = None,
    *,
    source_dir: str | None = None,
    channels: Mapping[str, str | os.PathLike[str]] | None = None,
    hyperparameters: Mapping[str, Any] | None = None,
    base_dir: str | os.PathLike[str] = ".",
    model_dir: str | os.PathLike[str] | None = None,
    output_data_dir: str | os.PathLike[str] | None = None,
    mode: str | None = None,
    hosts: Sequence[str] = (),
    current_host: str | None = None,
    local_hosts: int = 1,
) -> Path:
    """Train with a script, as SageMaker does, in a process of its own.

    Only a program's main thread may call it: SIGTERM and Ctrl-C are passed on to the script.

    Args:
        entry_point: the script; None: the hyperparameter ``sagemaker_program``.
        source_dir: the script's folder, a tar.gz of it, or its ``s3://`` address.
        channels: the input channels, each with its folder.
        hyperparameters: by name; values of any JSON type.
        base_dir: a folder like ``/opt/ml``; its files give what the arguments leave out.
        model_dir: the folder for the model; None: BASE/model.
        output_data_dir: the folder for other results; None: BASE/output/data.
        mode: "legacy" calls the script's train(), "script" runs the file; None decides by the
            script.
        hosts: all hosts of the job; empty: those of BASE/input/config/resourceconfig.json.
        current_host: the name of this host.
        local_hosts: try the job on so many hosts that are all this machine.

    Returns:
        The folder with the model.

    Raises:
        TrainingError: the job failed; BASE/output/failure has the reason and the traceback.

    Source: the developer guide, "training code interface".
    """
    from mms_handler import training

    options = training.Options(
        entry_point=entry_point,
        source_dir=source_dir,
        channels={name: Path(folder) for name, folder in (channels or {}).items()},
        hyperparameters=dict(hyperparameters or {}),
        hosts=tuple(hosts),
        current_host=current_host,
        model_dir=Path(model_dir) if model_dir else None,
        output_data_dir=Path(output_data_dir) if output_data_dir else None,
    )
    job = training.read_job(Path(base_dir), options)
    if local_hosts > 1:
        training.run_local_hosts(job, local_hosts, mode=mode)
    else:
        training.run(job, mode=mode)
    return job.model_dir
