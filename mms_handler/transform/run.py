"""Transform inputs with a model: find both, take up what is done, and run the job."""

from __future__ import annotations

import contextlib
import functools
import io
import os
from pathlib import Path
from typing import Callable, ContextManager, Generator, Iterator, Mapping, NamedTuple, Sequence

from mms_handler import __version__, settings
from mms_handler.errors import TransformError
from mms_handler.transform import executor, models, state
from mms_handler.transform.answering import joiner
from mms_handler.transform.handover import Files
from mms_handler.transform.inputs import Input, check_outside, list_inputs, total_bytes
from mms_handler.transform.job import Executor, Job, facts
from mms_handler.transform.local import LocalWorker
from mms_handler.transform.manifests import listed_inputs
from mms_handler.transform.outputs import Outputs, check_writable, state_folder
from mms_handler.transform.part import DonePart, Options, Part
from mms_handler.transform.process import Setup
from mms_handler.transform.remote import Server
from mms_handler.transform.report import Report
from mms_handler.transform.splitting import records


class Ready(NamedTuple):
    """Something that can process parts.

    Attributes:
        model: the model's checksum, or its URL.
        execute: processes the parts of a job.
    """

    model: str
    execute: Executor


class Target(NamedTuple):
    """Where a job reads and writes.

    Attributes:
        input: a file, a folder, a pattern, or an s3:// address of these; or a manifest of them.
        output: a folder, or the s3:// address of one.
        overwrite: whether outputs that are there may be replaced, and a job that is not finished.
        state: the folder for the state of the job; None: in the output folder, or the cache.
        is_manifest: whether ``input`` is a file that lists the inputs.
    """

    input: str
    output: str
    overwrite: bool = False
    state: Path | None = None
    is_manifest: bool = False


def transform(
    ready: ContextManager[Ready],
    target: Target,
    options: Options,
    *,
    fail_fast: bool = False,
    watch: Callable[[Report], ContextManager[None]] = lambda report: contextlib.nullcontext(),
) -> Report:
    """Transform all inputs.

    Args:
        ready: from ``local`` or ``remote``; entered once the inputs are known.
        target: where to read and write.
        options: of the job.
        fail_fast: whether the first record that fails, or input that cannot be read, ends the job.
        watch: entered while the job runs, with the report that it fills.

    Raises:
        HandlerError: the job cannot start or go on; what is done stays.
    """
    inputs = (listed_inputs if target.is_manifest else list_inputs)(target.input)
    check(options, inputs)
    check_outside(target.input, target.output)
    check_writable(target.output)
    folder = state_folder(target.output, target.state, settings.cache_folder(settings.current()))
    report = Report(total_bytes(inputs), len(inputs))
    outputs = Outputs(target.output, ".out.gz" if options.gzip_output else ".out")
    with state.held(folder, target.overwrite) as held, ready as worker:
        held.check(facts(worker.model, options, __version__), inputs)
        if not target.overwrite:
            _check_free(outputs, inputs, held)
        job = Job(inputs, outputs, held, options, report, fail_fast=fail_fast)
        with watch(report):
            job.run(worker.execute)
        if report.complete:
            held.remove()
    return report


def check(options: Options, inputs: Sequence[Input]) -> None:
    """See that options fit each other and the inputs, before anything is read.

    Raises:
        SettingsError: a filter is wrong, does not fit the content types, or needs a package.
        TransformError: several records cannot be sent together of an input that is not split.
    """
    joins, split_type = joiner(options), options.split_type
    for content_type in sorted({options.content_type or each.content_type() for each in inputs}):
        accept = options.accepted(content_type)
        joins.check(content_type, accept, split_type, options.assemble_with)
    next(records(io.BytesIO(), split_type, 1), None)
    if options.strategy == "MultiRecord" and split_type == "None":
        raise TransformError(
            "--strategy MultiRecord needs --split-type Line, RecordIO or TFRecord: an input that "
            "is not split is one record"
        )


def _check_free(outputs: Outputs, inputs: Sequence[Input], held: state.State) -> None:
    there = [each for each in outputs.existing(inputs) if not held.begun(each)]
    if there:
        raise TransformError(
            f"{len(there)} of the outputs are there already, such as {outputs.name(there[0])}; "
            "name another folder, or give --overwrite"
        )


@contextlib.contextmanager
def local(
    model: str, options: Options, *, script: Path | None = None, workers: int | None = None
) -> Iterator[Ready]:
    """Get ready to process parts in processes of this machine.

    Args:
        model: a folder, an archive, or the s3:// address of one.
        options: of the job.
        script: a script to use instead of the model's own.
        workers: how many processes; None: as many as memory and cores allow.

    Raises:
        HandlerError: the model cannot be found, or is not safe.
    """
    with models.unpacked(model, script) as unpacked, contextlib.closing(Files()) as files:
        count, threads = models.crew(settings.current(), unpacked.size_bytes, workers)
        variables: Mapping[str, str] = {"OMP_NUM_THREADS": str(threads)}
        place = unpacked.folder, unpacked.script
        setup = Setup(*place, options, variables, os.getpid())
        makers = [functools.partial(LocalWorker, setup, files)] * count

        def execute(parts: Iterator[Part]) -> Generator[DonePart, None, None]:
            return executor.processed(map(files.ready, parts), makers)

        yield Ready(unpacked.checksum, execute)


@contextlib.contextmanager
def remote(
    url: str, options: Options, *, max_concurrent: int = 4, timeout_s: float = 60, token: str = ""
) -> Iterator[Ready]:
    """Get ready to process parts by requests to a server.

    Args:
        url: http://host:port/predictions/NAME, or /invocations.
        options: of the job.
        max_concurrent: requests at a time.
        timeout_s: seconds to wait for each part of a reply.
        token: if the server needs one.
    """
    server = Server(url, max_concurrent, timeout_s, token)
    makers = [functools.partial(server.worker, options)] * 2  # one is cut while one is answered
    try:
        yield Ready(url, functools.partial(executor.processed, workers=makers))
    finally:
        server.close()
