"""The commands for the models of a running server: models list, load, swap and others."""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Iterator

import click

from mms_handler import schema
from mms_handler.cli.command import (
    connection_advice,
    end,
    examples,
    group,
    management_port_option,
    print_rows,
    print_table,
    token_file_option,
)
from mms_handler.errors import HandlerError, NameTaken, ServerError

if TYPE_CHECKING:
    from mms_handler.api import Management

#: What to do about a refusal, by its status, unless the command knows better.
_ADVICE = {
    401: "; name the server's token file with --token-file",
    404: "; mms-handler models list names the models",
    503: "; try again later",
    507: "; mms-handler models unload NAME makes room",
}

_NAME_TAKEN = "; mms-handler models swap NAME PATH serves another version"

#: The same for commands that load a model from a place.
_PLACE_ADVICE = {
    **_ADVICE,
    404: "; a server takes models from its --model-store, and from addresses of its --allowed-urls",
}


@group.group("models")
def models() -> None:
    """List, load, swap and unload the models of a running server.

    PATH is a .mar, a model.tar.gz or a folder in the server's model store, or an address that the
    server allows.  A model has versions: one is served, another may get a share of the requests,
    and the one that was served before is kept for rollback.
    """


def _command(name: str, *example: str) -> Callable[[Any], Any]:
    """Make a function a command of ``models``, with the options that all of them have."""

    def decorate(function: Any) -> Any:
        for option in (
            token_file_option,
            click.option("--timeout-s", type=float, metavar="S", default=600,
                         help="Time to wait for the server's answer.  [default: 600 s]"),
            management_port_option,
            click.option("--json", "as_json", is_flag=True, help="Print the result as JSON."),
        ):  # fmt: skip
            function = option(function)
        return models.command(name, epilog=examples(*example))(function)

    return decorate


_version_option = click.option(
    "--version",
    metavar="TEXT",
    help="Name of the version.  [default: the manifest's, else the next number]",
)


@_command("list", "mms-handler models list", "mms-handler models list --json")
def list_models(as_json: bool, **server: Any) -> None:
    """List the models, with the version that is served of each."""
    with _advised(_ADVICE):
        listing = _management(**server).models()
    if as_json:
        _print_json(listing)
    elif not listing:
        click.echo("no models")
    else:
        rows = [
            [each["modelName"], each.get("modelVersion", ""), each["modelUrl"]] for each in listing
        ]
        print_table(["MODEL", "VERSION", "FROM"], rows)


@_command(
    "describe", "mms-handler models describe iris", "mms-handler models describe iris/2 --json"
)
@click.argument("name", metavar="NAME[/VERSION]")
def describe(name: str, as_json: bool, **server: Any) -> None:
    """Describe a model: its versions and its workers."""
    with _advised(_ADVICE):
        description = _management(**server).describe(*_split(name))
    if as_json:
        _print_json(description)
    else:
        _print_description(description)


@_command(
    "load",
    "mms-handler models load iris.mar",
    "mms-handler models load store/iris --name flowers --workers 2",
)
@click.argument("path")
@click.option("--name", metavar="NAME",
              help="Name of the model.  [default: the manifest's, else that of the file or "
                   "folder]")  # fmt: skip
@_version_option
@click.option("--workers", type=click.IntRange(1), metavar="COUNT",
              help="Worker processes.  [default: the server's --workers, else 1]")  # fmt: skip
def load(
    path: str,
    name: str | None,
    version: str | None,
    workers: int | None,
    as_json: bool,
    **server: Any,
) -> None:
    """Load a model; it answers requests when this command ends."""
    from mms_handler.api.management import own_name

    with _advised(_PLACE_ADVICE):
        name = name or own_name(path)
        management = _management(**server)
        with _progress(management, name):
            description = management.load(path, name=name, version=version, workers=workers)
    _print_change(description, as_json)


@_command(
    "swap",
    "mms-handler models swap iris store/iris-2.mar",
    "mms-handler models swap iris store/iris-3.mar --share 10",
    "mms-handler models swap iris --version 3",
)
@click.argument("name")
@click.argument("path", required=False)
@click.option("--share", type=click.IntRange(0, 100), metavar="PERCENT",
              help="Percentage of the requests that it gets.  [default: all of them]")  # fmt: skip
@_version_option
def swap(
    name: str,
    path: str | None,
    share: int | None,
    version: str | None,
    as_json: bool,
    **server: Any,
) -> None:
    """Serve another version of a model, without a request that fails.

    The version of PATH is loaded beside the served one and answers its sample.  Then it gets the
    requests, and the old one is kept for rollback.  Without PATH, --version names a version that is
    loaded, for example one that had a share.
    """
    if not (path or version):
        raise click.UsageError("swap needs PATH, or --version with a version that is loaded")
    advice = _PLACE_ADVICE if path else _ADVICE
    with _advised(advice):
        management = _management(**server)
        with _progress(management, name):
            description = management.swap(name, path, version=version, share=share)
    _print_change(description, as_json)


@_command("rollback", "mms-handler models rollback iris")
@click.argument("name")
def rollback(name: str, as_json: bool, **server: Any) -> None:
    """Serve the version again that was served before."""
    with _advised(_ADVICE):
        description = _management(**server).rollback(name)
    _print_change(description, as_json)


@_command("scale", "mms-handler models scale iris 4", "mms-handler models scale iris/1 1")
@click.argument("name", metavar="NAME[/VERSION]")
@click.argument("workers", type=click.IntRange(1))
def scale(name: str, workers: int, as_json: bool, **server: Any) -> None:
    """Set the number of workers of a model.

    This is the version that is served, unless NAME/VERSION names another one.
    """
    name, version = _split(name)
    with _advised(_ADVICE):
        management = _management(**server)
        with _progress(management, name):
            description = management.scale(name, workers, version)
    _print_change(description, as_json)


@_command("unload", "mms-handler models unload iris", "mms-handler models unload iris/1")
@click.argument("name", metavar="NAME[/VERSION]")
def unload(name: str, as_json: bool, **server: Any) -> None:
    """Unload a model, or a version that is not served."""
    name, version = _split(name)
    with _advised(_ADVICE):
        _management(**server).unload(name, version)
    if as_json:
        _print_json({"modelName": name, **({"modelVersion": version} if version else {})})
    else:
        click.echo(f"version {version} of {name} is unloaded" if version else f"{name} is unloaded")


# --- asking ---


def _management(
    management_port: int | None, timeout_s: float, token_file: Path | None
) -> Management:
    from mms_handler.api import Management
    from mms_handler.server.access import read_tokens

    token = read_tokens(token_file).management if token_file else None
    return Management(management_port, token=token, timeout_s=timeout_s)


@contextlib.contextmanager
def _advised(advice: dict[int, str]) -> Iterator[None]:
    """End the command if the server refuses or does not answer, and say what to do."""
    refused = "start a server (mms-handler serve), or name its port with --management-port"
    lost = "the server has ended; its log says why"
    try:
        yield
    except HandlerError as exc:
        if isinstance(exc, ServerError) and exc.__cause__:  # no answer came
            end(f"{exc}{connection_advice(exc, refused, lost)}", 1)
        step = _NAME_TAKEN if isinstance(exc, NameTaken) else advice.get(exc.status)
        end(f"{str(exc).rstrip('.')}{step}" if step else str(exc), 1)


@contextlib.contextmanager
def _progress(management: Management, name: str) -> Iterator[None]:
    """Show the phase and the seconds of a load for the length of a ``with`` block."""
    from mms_handler import terminal

    start_s = time.monotonic()

    def text() -> str:
        phase = ""
        with contextlib.suppress(HandlerError):
            phase = _phase(management.describe(name))
        return f"{name} is loading, {time.monotonic() - start_s:.0f} s{phase}"

    with terminal.progress(text):
        yield


def _phase(description: dict[str, Any]) -> str:
    """What the workers of a model or of one of its versions do while they load, if one loads."""
    for each in (description, *description.get("versions", ())):
        if "phase" in each:
            return f": {each['phase']} for {each['phaseSeconds']} s"
    return ""


def _split(name: str) -> tuple[str, str]:
    """The model and the version of NAME/VERSION."""
    name, _, version = name.partition("/")
    return name, version


# --- printing ---


def _print_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2))


def _print_change(description: dict[str, Any], as_json: bool) -> None:
    if as_json:
        _print_json(description)
    else:
        states = map(_state, _versions(description))
        click.echo(f"{description['modelName']}: {'; '.join(states)}")


def _versions(description: dict[str, Any]) -> list[dict[str, Any]]:
    """The versions of a model, those with the most requests first; [] in that of one version."""
    return sorted(description.get("versions", ()), key=lambda each: -each["share"])


def _state(version: dict[str, Any]) -> str:
    """What a version does, in words."""
    subject, share = f"version {version['modelVersion']}", version["share"]
    if version["state"] == "served":
        workers = version["minWorkers"]
        served = f"{subject} is served by {workers} worker{'s' if workers != 1 else ''}"
        return served if share == 100 else f"{served}, with {share} % of the requests"
    if version["state"] == "shared":
        return f"{subject} gets {share} % of the requests"
    return f"{subject} is {version['state']}"


def _print_description(description: dict[str, Any]) -> None:
    name, version = description["modelName"], description.get("modelVersion")
    rows = [("model", f"{name}, version {version}" if version else name)]
    rows.append(("from", description["modelUrl"]))
    if "loadedAtStartup" in description:
        rows.append(
            ("loaded", "at the server's start" if description["loadedAtStartup"] else "later")
        )
    if signer := description.get("signedBy"):
        rows.append(("signed by", signer))
    if tuned := description.get("tuned"):
        from mms_handler.manifest import Tuned

        rows.append(("tuned", str(Tuned(**tuned))))
    if engine := description.get("engine"):
        rows.append(("engine", engine))
    if "phase" in description:
        rows.append(("loading", _phase(description)[2:]))
    arrays = schema.read(description) if "inputs" in description else schema.Schema()
    rows += [(name, ", ".join(map(str, tensors))) for name, tensors in arrays.named() if tensors]
    print_rows(rows)
    if versions := _versions(description):
        click.echo()
        columns = ["VERSION", "STATE", "SHARE", "WORKERS", "FROM"]
        print_table(columns, [_version_row(each) for each in versions], right="SHARE WORKERS")
    if workers := description["workers"]:
        click.echo()
        columns = ["WORKER", "STATUS", "MEMORY", "STARTED"]
        print_table(columns, [_worker_row(each) for each in workers], right="MEMORY")


def _version_row(version: dict[str, Any]) -> list[str]:
    state = version["state"] + (_phase(version) if "phase" in version else "")
    workers = str(version.get("minWorkers", ""))
    return [version["modelVersion"], state, f"{version['share']} %", workers, version["modelUrl"]]


def _worker_row(worker: dict[str, Any]) -> list[str]:
    started = worker["startTime"][:19].replace("T", " ")
    return [
        worker["id"],
        worker["status"],
        f"{worker['memoryUsage'] / 1e6:,.0f} MB",
        f"{started} UTC",
    ]
