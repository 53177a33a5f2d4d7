"""What the commands archive, serve and train do, as functions."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Iterator, Mapping, Sequence

from mms_handler import settings
from mms_handler.errors import ArchiveError, TrainingError

if TYPE_CHECKING:
    from mms_handler.server import Server

log = logging.getLogger(__name__)


def pack(
    model_dir: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    script: str | os.PathLike[str] | None = None,
    version: str | None = None,
    sample: str | os.PathLike[str] | None = None,
    content_type: str | None = None,
    accept: str = "*/*",
    calibration: str | os.PathLike[str] | None = None,
    min_agreement: float = 0.95,
    engine: str | None = None,
    key: str | os.PathLike[str] | None = None,
    passphrase: str = "",
    force: bool = False,
) -> Path:
    """Check a model and its script in a separate process, and write them as a ``.mar``.

    Args:
        model_dir: folder with the artifacts, and the script in ``code/`` if it has one.
        target: the ``.mar`` to write; its stem is the model's name.
        script: a script, or a folder with one, to pack instead of ``code/``.
        version: the model's, by which a server that has several knows it; None: a number that the
            server counts.
        sample: a file with a request to pack.  Workers answer it before they are ready.  None:
            the first request of ``calibration``, else zeros in the shapes that the default save
            wrote, if there are any.
        content_type: of the sample and of the calibration requests; None: from their suffixes.
        accept: the Accept header of the sample.
        calibration: a folder of typical requests, a file each, to make and pack an int8 graph.
            None: no int8 graph is packed.
        min_agreement: the fraction of predictions, from 0 to 1, that the int8 graph must not
            change.
        engine: "onnx" also packs an ONNX twin, from which workers answer where it is faster.
            None: none is packed.
        key: a file with an Ed25519 private key, which signs the archive; None: it is not signed.
        passphrase: of the key, if it is encrypted.
        force: replace ``target`` if it exists.

    Returns:
        ``target``.

    Raises:
        ArchiveError: the model does not load, does not answer the sample or cannot be quantized;
            or ``target`` exists.  ``target`` is then unchanged.
        ScriptError: ``script`` has no .py file, or several files could be the script.
        SettingsError: the private key cannot be read.
    """
    from mms_handler import archive

    if script:
        archive.script_at(Path(script))
    options: dict[str, Any] = {"sample": Path(sample) if sample else None}
    if calibration:
        requests = archive.calibration_requests(Path(calibration), content_type)
        options = {
            "sample": options["sample"] or requests[0].path,
            "quantizer": lambda folder: archive.quantize(folder, requests, min_agreement),
        }
    if engine not in (None, "onnx"):
        raise ArchiveError(f"the engine is {engine!r}; expected 'onnx' or None")
    if engine:
        options["twin_maker"] = archive.make_twin
    return archive.pack(
        Path(model_dir),
        Path(target),
        code=Path(script) if script else None,
        program=settings.current().program,
        version=version,
        content_type=content_type,
        accept=accept,
        force=force,
        trial=archive.try_sample,
        key=archive.read_private(Path(key), lambda: passphrase) if key else None,
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
    require_signature: str | os.PathLike[str] | None = None,
    log: Callable[[str], None] = log.info,
) -> Iterator[Server]:
    """Serve models for the length of a ``with`` block.

    An argument that is None takes the value of its variable, or the default (docs/settings.md).

    Args:
        paths: archives, model.tar.gz files and folders, or their s3://, https:// or http://
            addresses; each model is named after its file.
        host: the address to listen on; by default 127.0.0.1.
        port: for clients; by default 8080.
        management_port: for registering models, on 127.0.0.1; by default 8081.
        workers: worker processes per model; by default as many as fit into the machine's memory.
        batch_size: the maximum batch size; by default 32 for models that can batch, else 1.
        timeout_s: seconds for one request, and for loading a model; by default 60.
        keep_going: serve the other models if one cannot load.
        require_signature: a file or a folder with public keys, one of which must have signed each
            archive; by default archives need no signature.
        log: called with each record of the server's log, as text or JSON as the variables say; by
            default these are logged at INFO.  May not raise.

    Yields:
        The server, once every model is loaded: ``server.url``, ``server.predictions_url(name)``.
        After the block none of its processes is left.

    Raises:
        ArchiveError: a path is not an archive or a model's folder, or is not safe.
        UntrustedArchive: a model is not an archive that one of the keys has signed.
        ServerError: there is no Java, a port is in use, MMS ended, or a model cannot be loaded.
        SettingsError: a variable has an invalid value, or everyone could load models.
    """
    from mms_handler import server
    from mms_handler.server import access

    arguments = {
        "host": host,
        "port": port,
        "management_port": management_port,
        "workers": workers,
        "batch_size": batch_size,
        "timeout_s": timeout_s,
        "keep_going": keep_going,
        "require_signature": os.fspath(require_signature) if require_signature else None,
    }
    options = {name: value for name, value in arguments.items() if value is not None}
    effective = settings.effective(settings.environment(), options)
    if paths:  # as for the command: without paths, this may be SageMaker's container
        access.check_exposure(effective.settings)
    places = [os.fspath(path) for path in paths]
    with server.serve(places, effective.settings, log=log) as running:
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
    stall_s: float | None = None,
    checkpoint_dir: str | os.PathLike[str] | None = None,
    seed: int | None = None,
    force: bool = False,
    metrics: str | os.PathLike[str] | None = None,
    metric_definitions: str | os.PathLike[str] | None = None,
    plot: str | os.PathLike[str] | None = None,
) -> Path:
    """Train with a script, as SageMaker does, in a separate process.

    Call it from the program's main thread: it passes SIGTERM and Ctrl-C on to the script.

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
        local_hosts: if more than 1, try the job on this many hosts, which are all this machine.
        stall_s: seconds without any processor time after which the script has failed; None: never.
        checkpoint_dir: the folder for checkpoints, which is kept between runs; None:
            BASE/checkpoints.
        seed: from 0 to ``2**31 - 1``, for the random generators of Python, NumPy and MXNet, on
            every host; None seeds nothing.
        force: remove files from the model's folder that no earlier training left there.
        metrics: a file for the metrics that the script prints, a JSON line for each value.
        metric_definitions: a JSON file of SageMaker's metric definitions; None: the usual patterns.
        plot: an .svg or .png file for a learning curve; needs matplotlib.

    Returns:
        The folder with the model.

    Raises:
        TrainingError: the job failed; the text names the host, the phase and the reason.
            BASE/output/failure has it too, and the traceback.

    Source: the developer guide, "training code interface".
    """
    from mms_handler import training

    if threading.current_thread() is not threading.main_thread():
        raise TrainingError(
            "train was called from a thread; call it from the program's main thread, because only "
            "that can pass SIGTERM and Ctrl-C on to the script"
        )
    options = training.JobOptions(
        entry_point=entry_point,
        source_dir=source_dir,
        channels={name: Path(folder) for name, folder in (channels or {}).items()},
        hyperparameters=dict(hyperparameters or {}),
        hosts=tuple(hosts),
        current_host=current_host,
        model_dir=Path(model_dir) if model_dir else None,
        output_data_dir=Path(output_data_dir) if output_data_dir else None,
        stall_s=stall_s,
        checkpoint_dir=Path(checkpoint_dir) if checkpoint_dir else None,
        seed=seed,
        force=force,
    )
    base_dir = Path(base_dir)
    with training.recorded(base_dir, training.host_name(base_dir, hosts, current_host)):
        with training.phase("reading the job"):
            job = training.read_job(base_dir, options)
            watching = training.watching(
                file=Path(metrics) if metrics else None,
                definitions=Path(metric_definitions) if metric_definitions else None,
                picture=Path(plot) if plot else None,
            )
        training.run_job(
            job,
            mode=mode,
            local_hosts=local_hosts,
            watching=watching if metrics or plot else None,
        )
    return job.model_dir
