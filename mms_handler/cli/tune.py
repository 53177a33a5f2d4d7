"""The command tune: the settings with which a model answers the most requests."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Sequence

import click

from mms_handler import settings, terminal
from mms_handler.cli.bench import INTERRUPTED, Line, interrupt, request_for
from mms_handler.cli.command import (
    examples,
    existing,
    group,
    passphrase_option,
    print_table,
    private_key,
    request_options,
)

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from mms_handler.bench.order import Timing
    from mms_handler.manifest import Tuned
    from mms_handler.tuning.search import Verdict
    from mms_handler.tuning.trial import State, Trial
    from mms_handler.tuning.tuner import Limits, Tuner


@group.command(
    epilog=examples(
        "mms-handler tune store/iris.mar",
        "mms-handler tune store/iris.mar --p99-ms 50 --memory-mb 2000 --plot iris.svg",
        "mms-handler tune store/iris.mar row.csv --dry-run",
    )
)
@click.argument("model", type=existing)
@request_options
@click.option("--p99-ms", type=click.FloatRange(0, min_open=True), metavar="MS",
              help="99 of 100 replies must come within this time.  [default: no "
              "limit]")  # fmt: skip
@click.option("--memory-mb", type=click.IntRange(1), metavar="MB",
              help="Memory of front end and workers at most.  [default: no limit]")  # fmt: skip
@click.option("--seconds", type=click.FloatRange(0, min_open=True), default=3, metavar="S",
              help="Time to measure each number of clients in a trial; the last rounds take twice "
              "as long.  [default: 3 s]")  # fmt: skip
@click.option("--warmup-s", type=click.FloatRange(0), default=1, metavar="S",
              help="Time that does not count, before.  [default: 1 s]")  # fmt: skip
@click.option("--max-trials", type=click.IntRange(1), metavar="COUNT",
              help="End the search after this number of candidates; the last rounds follow.  "
              "[default: no limit]")  # fmt: skip
@click.option("--state", type=click.Path(path_type=Path), metavar="FILE",
              help="File that keeps the trials until the end.  [default: beside the model, with "
              ".tune after its name]")  # fmt: skip
@click.option("--output", type=click.Path(path_type=Path), metavar="FILE",
              help="The archive to write.  [default: MODEL itself]")  # fmt: skip
@click.option("--force", is_flag=True, help="Replace the archive of --output.")
@click.option("--sign", "key", type=existing, metavar="KEY",
              help="Sign the archive with the Ed25519 private key in this file.  [default: do not "
              "sign it]")  # fmt: skip
@passphrase_option
@click.option("--dry-run", is_flag=True, help="Write no archive.")
@click.option("--plot", type=click.Path(path_type=Path), metavar="FILE",
              help="Draw the trials, as .svg or .png; needs matplotlib.")  # fmt: skip
def tune(
    model: Path,
    file: Path | None,
    content_type: str | None,
    accept: str | None,
    p99_ms: float | None,
    memory_mb: int | None,
    seconds: float,
    warmup_s: float,
    max_trials: int | None,
    state: Path | None,
    output: Path | None,
    force: bool,
    dry_run: bool,
    plot: Path | None,
    key: Path | None,
    passphrase_file: Path | None,
) -> None:
    """Find the settings with which a model answers the most requests, and write them into it.

    MODEL is an archive, or a folder, for which the settings are only printed.  Tries numbers of
    workers and threads, batch sizes, the compiled core and an int8 graph if one is packed; then
    measures the best beside the defaults.  serve uses what the archive says, unless an option or
    a variable says otherwise.

    A run that was ended goes on with the trials that it lacks.  After Ctrl-C the best until then
    counts, if it is much better than the defaults.
    """
    from mms_handler.bench.order import Timing
    from mms_handler.tuning import trial
    from mms_handler.tuning.tuner import Interrupted, Limits, Tuner

    is_archive = model.suffix == ".mar"
    _check(plot, output, force, is_archive)
    private = private_key(key, passphrase_file) if key else None
    request = request_for(model, file, None, content_type, accept)
    memory = {"memory_bytes": memory_mb * 2**20} if memory_mb else {}
    effective = settings.effective(settings.environment(), {"log_level": "error", **memory})
    limits = Limits(p99_ms or 0, memory_mb or 0)
    timing = Timing(warmup_s, seconds)
    tuner = Tuner(model, request, effective.settings, limits, timing)
    known = trial.State(state or model.with_name(f"{model.name}.tune"), tuner.key())
    if known.trials:
        click.echo(f"going on: {len(known.trials)} trials are there", err=True)
    signal.signal(signal.SIGTERM, interrupt)
    whole = True
    try:
        verdict = _found(tuner, known, timing, limits, max_trials)
    except (KeyboardInterrupt, Interrupted):
        from mms_handler.tuning.search import unconfirmed

        verdict, whole = unconfirmed(known.trials), False
    _print(known.trials, verdict)
    if plot:
        from mms_handler.tuning import picture

        picture.draw(known.trials, verdict, limits, str(model), plot)
    target = None if dry_run or not is_archive else output or model
    _conclude(verdict, model, target, force, private)
    if not whole:
        click.echo("interrupted: the same command goes on from here", err=True)
        sys.exit(INTERRUPTED)
    if not dry_run:
        known.remove()


def _check(plot: Path | None, output: Path | None, force: bool, is_archive: bool) -> None:
    """Check, before anything is measured, that the results can be written."""
    from mms_handler.archive.files import check_free
    from mms_handler.bench import pictures, result

    result.check_has_histogram()
    if plot:
        pictures.check_can_draw(plot)
    if output and not is_archive:
        raise click.UsageError("--output is for an archive; pack the folder first")
    if output:
        check_free(output, force)


def _found(
    tuner: Tuner, known: State, timing: Timing, limits: Limits, max_trials: int | None
) -> Verdict:
    """Search and confirm, with a live line or a line for each trial."""
    from mms_handler.tuning.search import confirm, search
    from mms_handler.tuning.tuner import check_fits

    line = Line(timing)

    def note(start: str) -> None:
        line.start = f"trial {len(known.trials) + 1}, {start}"
        line.forget()

    def watch(start: str, measured: Any) -> None:
        line.show(measured)

    tuner.watch, tuner.note = watch, note
    with terminal.progress(line.text):
        measure = tuner.trying(known)
        trials = search(tuner.space, measure, max_trials)
        check_fits(trials, limits)
        return confirm(trials, measure)


def _print(trials: Sequence[Trial], verdict: Verdict) -> None:
    columns = ["TRIAL", "CLIENTS", "REPLIES/S", "P99", "MB", "SETTINGS"]
    rows = [
        [
            f"round {trial.round}" if trial.round else "short",
            str(trial.clients or "-"),
            f"{trial.rate:,.0f}" if trial.rate else "-",
            f"{trial.p99_ms:.1f}" if trial.p99_ms else "-",
            f"{trial.mb:,.0f}" if trial.mb else "-",
            f"{trial.candidate}{f' ({trial.reason})' if trial.reason else ''}",
        ]
        for trial in trials
    ]
    print_table(columns, rows, right="CLIENTS REPLIES/S P99 MB")


def sentence(verdict: Verdict) -> str:
    """What is best, and by how much."""
    speed = f"{verdict.rate:,.0f} replies/s, p99 {verdict.p99_ms:.1f} ms"
    if verdict.reason:
        return f"{verdict.reason}: {speed}"
    than = "the defaults do not keep to the limits"
    if verdict.default_rate:
        than = f"{verdict.gain:.0%} more than the defaults"
    sure = "" if verdict.is_sure else "; not confirmed"
    return f"{verdict.candidate}: {speed}, {than}{sure}"


def _conclude(
    verdict: Verdict,
    model: Path,
    target: Path | None,
    force: bool,
    key: Ed25519PrivateKey | None,
) -> None:
    """Say what is best, and write it."""
    from mms_handler import archive
    from mms_handler.server.machine import this_machine
    from mms_handler.tuning.candidate import Candidate

    is_default = verdict.candidate == Candidate()
    click.echo(sentence(verdict))
    if not is_default and target is None:
        click.echo(f"to serve it so: {verdict.candidate.options()} {model}")
    if target is None:
        return
    tuned: Tuned = verdict.candidate.tuned(this_machine().cpus)
    if is_default and target == model and archive.manifest_of(model).tuned is None:
        return
    was_signed = archive.manifest_of(model).signer
    archive.write_tuned(model, tuned, target, force, key)
    click.echo(f"{target} is served with {tuned}")
    if was_signed and not key:
        click.echo(f"it is not signed any more: mms-handler sign {target} --key KEY")
