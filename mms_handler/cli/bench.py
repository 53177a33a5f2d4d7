"""The command bench: how fast a server answers, and whether its replies are right."""

from __future__ import annotations

import contextlib
import datetime
import json
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Iterator, Sequence

import click

from mms_handler import __version__, settings, terminal
from mms_handler.cli.command import (
    connection_advice,
    end,
    examples,
    existing,
    group,
    place,
    print_table,
    request_options,
    token_file_option,
)
from mms_handler.errors import ServerError

if TYPE_CHECKING:
    from mms_handler.bench.measuring import Target
    from mms_handler.bench.order import Load, Timing
    from mms_handler.bench.result import Measured, Result
    from mms_handler.bench.target import Request

#: The exit code after Ctrl-C, as in shells.
INTERRUPTED = 130

#: Numbers of clients without --clients and --rate.
_CLIENTS = (1, 8, 32)


def _numbers(kind: Callable[[str], Any]) -> Callable[..., Any]:
    """A callback that reads positive numbers, separated by commas."""

    def read(ctx: click.Context, param: click.Parameter, value: str | None) -> Any:
        if value is None:
            return ()
        try:
            numbers = tuple(kind(word) for word in value.split(","))
        except ValueError:
            numbers = ()
        if not numbers or not all(0 < number < float("inf") for number in numbers):
            raise click.BadParameter(f"{value!r} is not a list of positive numbers, such as 1,8,32")
        return numbers

    return read


@group.command(
    epilog=examples(
        "mms-handler bench store/iris.mar",
        "mms-handler bench store/iris.mar --rate 500,1000 --plot iris.svg",
        "mms-handler bench http://127.0.0.1:8080/predictions/iris row.csv --clients 8",
    )
)
@click.argument("target", metavar="URL|MODEL", type=place)
@request_options
@click.option("--sample", type=existing, metavar="MODEL",
              help="Send the sample of this model to URL.  [default: FILE]")  # fmt: skip
@click.option("--clients", callback=_numbers(int), metavar="NUMBERS",
              help="Numbers of clients, which are measured one after the other; each client sends "
              "its next request when it has its reply.  [default: 1,8,32 without "
              "--rate]")  # fmt: skip
@click.option("--rate", callback=_numbers(float), metavar="NUMBERS",
              help="Rates, in requests a second, which are measured one after the other; requests "
              "are sent whether or not earlier ones were answered.  [default: none]")  # fmt: skip
@click.option("--seconds", type=click.FloatRange(0, min_open=True), default=10, metavar="S",
              help="Time to measure each load.  [default: 10 s]")  # fmt: skip
@click.option("--warmup-s", type=click.FloatRange(0), default=2, metavar="S",
              help="Time of each load that does not count, before.  [default: 2 s]")  # fmt: skip
@click.option("--timeout-s", type=click.FloatRange(0, min_open=True), default=10, metavar="S",
              help="A reply that takes longer is an error.  [default: 10 s]")  # fmt: skip
@click.option("--processes", type=click.IntRange(1), metavar="COUNT",
              help="Processes that make the load.  [default: one for four cores]")  # fmt: skip
@token_file_option
@click.option("--json", "json_file", type=click.Path(path_type=Path), metavar="FILE",
              help="Write the results as JSON.")  # fmt: skip
@click.option("--plot", type=click.Path(path_type=Path), metavar="FILE",
              help="Draw latency against throughput, as .svg or .png; needs "
              "matplotlib.")  # fmt: skip
@click.option("--html", "html_file", type=click.Path(path_type=Path), metavar="FILE",
              help="Write a page with table and picture; needs matplotlib.")  # fmt: skip
def bench(
    target: str | Path,
    file: Path | None,
    content_type: str | None,
    accept: str | None,
    sample: Path | None,
    clients: tuple[int, ...],
    rate: tuple[float, ...],
    seconds: float,
    warmup_s: float,
    timeout_s: float,
    processes: int | None,
    token_file: Path | None,
    **files: Path | None,
) -> None:
    """Measure how fast a server answers, and check each reply.

    URL is an address of a model on a server that runs, such as
    http://127.0.0.1:8080/predictions/iris.  MODEL is an archive or a folder, which is served for
    this measurement, with the settings of the environment.  The request is the model's packed
    sample, or FILE.

    Latencies of --rate count from the moment at which a request was planned, so a server that
    stalls cannot hide it.  Exits with 1 if a reply was wrong or there were errors.
    """
    from mms_handler.bench import measuring
    from mms_handler.bench.order import Load, Timing

    check_files(**files)
    request = request_for(target, file, sample, content_type, accept)
    loads = [Load(clients=number) for number in clients]
    loads += [Load(rate=number) for number in rate]
    loads = loads or [Load(clients=number) for number in _CLIENTS]
    timing = Timing(warmup_s, seconds, timeout_s)
    signal.signal(signal.SIGTERM, interrupt)
    count = processes or measuring.default_processes()
    with _url(target) as url:
        address = _ask(url, request, token_file if isinstance(target, str) else None)
        results, whole = measure(address, loads, timing, count)
    finish(results, str(target), request.description, timing, **files)
    if not whole:
        click.echo("interrupted: this is what there was", err=True)
        sys.exit(INTERRUPTED)
    if not all(result.is_good for result in results):
        sys.exit(1)


def interrupt(number: int, frame: Any) -> None:
    """End as after Ctrl-C."""
    raise KeyboardInterrupt


def check_files(json_file: Path | None, plot: Path | None, html_file: Path | None) -> None:
    """Check, before anything is measured, that the files can be written.

    Raises:
        ServerError: matplotlib is needed and not installed, or a suffix is not known.
    """
    from mms_handler.bench import pictures, result

    result.check_has_histogram()
    if plot:
        pictures.check_can_draw(plot)
    if html_file:
        pictures.check_has_matplotlib("--html")


def request_for(
    target: str | Path,
    file: Path | None,
    sample: Path | None,
    content_type: str | None,
    accept: str | None,
) -> Request:
    """The request: FILE, or the sample of a model."""
    from mms_handler.bench import target as targets

    model = sample or (target if isinstance(target, Path) else None)
    if file:
        if sample:
            raise click.UsageError("FILE and --sample are two requests; give one of them")
        return targets.from_file(file, content_type, accept)
    if model is None:
        raise click.UsageError("a URL needs a request: name a FILE, or a model with --sample")
    request = targets.from_model(model, content_type, accept)
    if request is None:
        raise click.UsageError(f"{model} has no sample; name a FILE with a request")
    return request


@contextlib.contextmanager
def _url(target: str | Path) -> Iterator[str]:
    """The URL of the target; a model is served for the length of a ``with`` block."""
    from mms_handler.bench import target as targets

    if isinstance(target, str):
        yield target
        return
    effective = settings.effective(settings.environment(), {"log_level": "warning"})
    click.echo(f"serving {target}", err=True)
    with targets.served(target, effective.settings, _print_log, use_tuned=True) as url:
        yield url


def _print_log(line: str) -> None:
    with contextlib.suppress(OSError):
        click.echo(line, err=True)


def _ask(url: str, request: Request, token_file: Path | None) -> Target:
    from mms_handler.bench import target as targets

    token = ""
    if token_file:
        from mms_handler.server.access import read_tokens

        token = read_tokens(token_file).inference
    try:
        return targets.asked_once(url, request, token)
    except ServerError as exc:
        refused = "start a server (mms-handler serve MODEL), or name a MODEL instead of a URL"
        end(f"{exc}{connection_advice(exc, refused, 'it closed the connection')}", 1)


def measure(
    target: Target, loads: Sequence[Load], timing: Timing, processes: int
) -> tuple[list[Result], bool]:
    """Measure the loads one after the other, with a live line.

    Returns:
        The results, and whether all loads were measured to their end.
    """
    from mms_handler.bench import measuring

    results: list[Result] = []
    line = Line(timing)
    with terminal.progress(line.text):
        for load in loads:
            result, whole = measuring.measure(
                target, load, timing, processes=processes, watch=line.show
            )
            results.append(result)
            if not whole:
                return results, False
    return results, True


class Line:
    """The live line of a measurement."""

    def __init__(self, timing: Timing, start: str = "") -> None:
        self._timing, self.start = timing, start
        self._measured: Measured | None = None
        self._since_s = 0.0

    def show(self, measured: Measured) -> None:
        """Show this from now on."""
        if measured is not self._measured:
            self._measured, self._since_s = measured, time.monotonic()

    def forget(self) -> None:
        """Show nothing until ``show`` is called."""
        self._measured = None

    def text(self) -> str:
        measured = self._measured
        if measured is None:
            return f"{self.start}starting"
        passed = time.monotonic() - self._since_s - self._timing.warmup_s
        if passed < 0 or not measured.latencies.total_count:
            return f"{self.start}{measured.load}: warming up"
        passed = min(passed, self._timing.seconds)
        line = (
            f"{self.start}{measured.load}: {passed:.0f} of {self._timing.seconds:g} s, "
            f"{measured.in_time / max(passed, 1e-3):,.0f} replies/s, p50 {measured.ms(50):.1f} ms, "
            f"p99 {measured.ms(99):.1f} ms"
        )
        if measured.errors or measured.wrong:
            line += f", {measured.errors:,} errors, {measured.wrong:,} wrong"
        return line


def finish(
    results: Sequence[Result],
    target: str,
    request: str,
    timing: Timing,
    json_file: Path | None,
    plot: Path | None,
    html_file: Path | None,
) -> None:
    """Print the table, and write the files that were asked for."""
    from mms_handler.bench import page, pictures, table
    from mms_handler.server.machine import this_machine

    columns, rows = table.columns(results), table.rows(results)
    print_table(columns, rows, right=" ".join(columns[1:]))
    click.echo(table.caption(results))
    notes = table.notes(results)
    for note in notes:
        click.echo(note, err=True)
    title = f"{target}, {request}"
    machine = this_machine()
    facts = {
        "target": target,
        "request": request,
        "seconds": f"{timing.seconds:g} after {timing.warmup_s:g} of warm-up, for each load",
        "machine": f"{machine.cpus:g} cores, {machine.memory_bytes // 2**20:,} MB",
        "version": f"mms-handler {__version__}",
        "when": datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
    }
    if json_file:
        listed = [result.as_json() for result in results]
        json_file.write_text(json.dumps({**facts, "results": listed}, indent=2) + "\n")
    if plot:
        pictures.draw(results, title, plot)
    if html_file:
        page.write(
            html_file,
            title=f"How fast {target} answers",
            columns=columns,
            rows=rows,
            caption=table.caption(results),
            picture=pictures.svg(results, ""),
            facts=list(facts.items()),
            notes=notes,
        )
