"""One host's part of a training job, read from SageMaker's folders and from options.

BASE/input/config/{hyperparameters,inputdataconfig,resourceconfig}.json
BASE/input/data/CHANNEL/    BASE/code/    BASE/checkpoints/
BASE/model/    BASE/output/{data/,success,failure}
"""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any, Callable, Mapping, NamedTuple, Sequence

from mms_handler.errors import TrainingError
from mms_handler.training import code
from mms_handler.training.before_joining import reported
from mms_handler.training.phases import phase

#: Beginnings of the names of hyperparameters that are not the user's own.
_SYSTEM = ("sagemaker_", "_ps_")


class Job(NamedTuple):
    """One host's part of a job, with all that a script can learn about it."""

    entry_point: Path  # the script
    hyperparameters: Mapping[str, Any]
    channels: Mapping[str, Path]  # name to folder; without channels in PIPE mode, as they have none
    model_dir: Path
    output_data_dir: Path
    hosts: tuple[str, ...] = ("algo-1",)
    current_host: str = "algo-1"
    input_data_config: Mapping[str, Any] = {}  # by channel; channels not in it are in FILE mode
    base_dir: Path = Path()
    network_interface: str = "eth0"
    source_dir: Path | None = None  # the code's folder; None: the script's own folder
    resources: Mapping[str, Any] = {}  # all of resourceconfig.json
    stall_s: float | None = None  # seconds without processor time after which it has failed
    checkpoints: Path | None = None  # None: BASE/checkpoints
    seed: int | None = None  # of the generators of Python, NumPy and MXNet, on every host
    force: bool = False  # remove files from model_dir that no training left there

    @property
    def checkpoint_dir(self) -> Path:
        """The folder of the checkpoints, which is kept from one run to the next."""
        return self.checkpoints or self.base_dir / "checkpoints"

    @property
    def code_dir(self) -> Path:
        """The folder from which the script imports its siblings."""
        return (self.source_dir or self.entry_point.parent).resolve()

    @property
    def output_dir(self) -> Path:
        """The folder of the files ``success`` and ``failure``."""
        return self.base_dir / "output"

    @property
    def first_host(self) -> str:
        """The host that saves the model and runs the scheduler of the parameter server."""
        return sorted(self.hosts)[0]

    def name(self, environment: Mapping[str, str]) -> str:
        """The job's name, from the hyperparameters or SageMaker's variable; "" without one."""
        name = self.hyperparameters.get("sagemaker_job_name")
        return str(name or environment.get("TRAINING_JOB_NAME", ""))

    def region(self, environment: Mapping[str, str]) -> str:
        """The AWS region, from the hyperparameters or the environment; "" without one."""
        variables = ("SAGEMAKER_REGION", "AWS_REGION", "AWS_DEFAULT_REGION")
        regions = [environment[name] for name in variables if environment.get(name)]
        return str(self.hyperparameters.get("sagemaker_region") or (regions or [""])[0])

    def whole_number(self, name: str, default: int) -> int:
        """The hyperparameter ``name`` as a whole number.

        Raises:
            TrainingError: it is not a whole number.
        """
        value = self.hyperparameters.get(name, default)
        try:
            return int(value)
        except (TypeError, ValueError):
            raise TrainingError(f"hyperparameter {name}: {value!r} is not a whole number") from None

    def check(self) -> None:
        """Check what can be checked before anything runs.

        Raises:
            TrainingError: the script or a channel's folder does not exist, the current host is
                not among the hosts, or the seed is not one of MXNet's.
        """
        packaged = not self.entry_point.suffix and (self.code_dir / "setup.py").is_file()
        if not (self.entry_point.is_file() or packaged):
            raise TrainingError(f"the script {self.entry_point} does not exist")
        for name, folder in self.channels.items():
            if not folder.is_dir():
                raise TrainingError(f"channel {name}: the folder {folder} does not exist")
        if self.current_host not in self.hosts:
            hosts = ", ".join(self.hosts)
            raise TrainingError(
                f"the current host {self.current_host} is not among the hosts {hosts}; "
                "correct --hosts and --current-host, or resourceconfig.json"
            )
        if self.seed is not None and not 0 <= self.seed < 2**31:
            raise TrainingError(f"the seed {self.seed} is not from 0 to {2**31 - 1}")

    def to_json(self) -> str:
        """The job as text, for another process."""
        return json.dumps(self._asdict(), default=str)

    @classmethod
    def from_json(cls, text: str) -> Job:
        """The job that ``to_json`` wrote."""
        fields = json.loads(text)
        paths = (
            *("entry_point", "model_dir", "output_data_dir", "base_dir"),
            *("source_dir", "checkpoints"),
        )
        return cls(
            **{
                **fields,
                **{name: Path(fields[name]) for name in paths if fields[name]},
                "channels": {name: Path(folder) for name, folder in fields["channels"].items()},
                "hosts": tuple(fields["hosts"]),
            }
        )


class JobOptions(NamedTuple):
    """The command line's values for a job, which override SageMaker's files."""

    entry_point: str | None = None
    source_dir: str | None = None
    channels: Mapping[str, Path] = {}
    hyperparameters: Mapping[str, Any] = {}
    hosts: tuple[str, ...] = ()
    current_host: str | None = None
    model_dir: Path | None = None
    output_data_dir: Path | None = None
    stall_s: float | None = None
    checkpoint_dir: Path | None = None
    seed: int | None = None
    force: bool = False
    raw_hyperparameters: bool = False


def read_job(
    base_dir: Path, options: JobOptions, progress: Callable[[int], None] | None = None
) -> Job:
    """Read the job that ``base_dir`` and ``options`` describe, and fetch its code.

    Args:
        base_dir: /opt/ml or a folder like it.  Files may be missing if options replace them.
        options: from the command line.
        progress: called with the size of each chunk of a download in bytes.

    Raises:
        TrainingError: a file cannot be read, or no script is named.
    """
    config_dir = base_dir / "input" / "config"
    raw = options.raw_hyperparameters
    hyperparameters = {
        **read_hyperparameters(config_dir / "hyperparameters.json", raw=raw),
        **(_to_texts(options.hyperparameters) if raw else options.hyperparameters),
    }
    input_data_config = _read_channels(config_dir / "inputdataconfig.json")
    resources = _read_object(config_dir / "resourceconfig.json")
    hosts = options.hosts or tuple(resources.get("hosts", ())) or ("algo-1",)
    job = Job(
        entry_point=Path(),
        hyperparameters=hyperparameters,
        channels={
            **_channel_folders(base_dir, input_data_config, hyperparameters),
            **options.channels,
        },
        model_dir=options.model_dir or base_dir / "model",
        output_data_dir=options.output_data_dir or base_dir / "output" / "data",
        # SageMaker sorts them.  Scripts and its containers take the first one of the list for what
        # first_host is, too: the host that saves.
        hosts=tuple(sorted(hosts)),
        current_host=options.current_host or resources.get("current_host") or hosts[0],
        input_data_config={
            name: config
            for name, config in input_data_config.items()
            if name not in options.channels
        },
        base_dir=base_dir,
        network_interface=resources.get("network_interface_name", "eth0"),
        resources=resources,
        stall_s=options.stall_s,
        checkpoints=options.checkpoint_dir or _checkpoint_dir(config_dir),
        seed=options.seed,
        force=options.force,
    )
    # Only some hosts may be unable to fetch it.
    with reported(job):
        script, source_dir = _fetch_script(base_dir, options, hyperparameters, progress)
    return job._replace(entry_point=script, source_dir=source_dir)


def host_name(base_dir: Path, hosts: Sequence[str] = (), current_host: str | None = None) -> str:
    """The name of this host, even if the job cannot be read: then it is the machine's.

    Args:
        base_dir: /opt/ml or a folder like it.
        hosts: all hosts, if options name them.
        current_host: this host, if an option names it.
    """
    if current_host:
        return current_host
    try:
        resources = _read_object(base_dir / "input" / "config" / "resourceconfig.json")
        names = hosts or resources.get("hosts") or ("algo-1",)
        return str(resources.get("current_host") or names[0])
    except (TrainingError, LookupError, TypeError):
        return socket.gethostname()


def _fetch_script(
    base_dir: Path,
    options: JobOptions,
    hyperparameters: Mapping[str, Any],
    progress: Callable[[int], None] | None,
) -> tuple[Path, Path | None]:
    """The script and the folder of its code; None if that is the script's own folder."""
    program = options.entry_point or hyperparameters.get("sagemaker_program")
    if not program:
        raise TrainingError(
            "no script is named; use --entry-point, or the hyperparameter sagemaker_program"
        )
    source = options.source_dir or hyperparameters.get("sagemaker_submit_directory")
    if source is None and options.entry_point and Path(program).exists():
        return Path(program), None
    if options.source_dir and Path(options.source_dir).is_dir():
        folder = Path(options.source_dir)  # a folder on this machine is used where it is
        return folder / program, folder
    folder = base_dir / "code"
    if source:
        with phase("fetching the code"):
            code.fetch(
                source,
                folder,
                region=hyperparameters.get("sagemaker_region"),
                progress=progress,
                replace=options.source_dir is not None,
            )
    return folder / str(program), folder


def _channel_folders(
    base_dir: Path, input_data_config: Mapping[str, Any], hyperparameters: Mapping[str, Any]
) -> dict[str, Path]:
    """The channels' folders by name.  Channels in PIPE mode have none, as the guide says.

    The hyperparameter ``sagemaker_s3_uri_CHANNEL`` names a part of a channel's folder.
    """
    folders = {}
    for name, config in input_data_config.items():
        folder = base_dir / "input" / "data" / name
        part = folder / str(hyperparameters.get(f"sagemaker_s3_uri_{name}", ""))
        if config.get("TrainingInputMode") != "Pipe":
            folders[name] = part if part.exists() else folder
    return folders


def _checkpoint_dir(config_dir: Path) -> Path | None:
    """The folder that SageMaker copies to and from S3, if it names one.

    Source: awslabs/sagemaker-debugger reads the same key (smdebug/core/config_constants.py).
    """
    name = _read_object(config_dir / "checkpointconfig.json").get("LocalPath")
    return Path(str(name)) if name else None


def read_hyperparameters(path: Path, *, raw: bool = False) -> dict[str, Any]:
    """Read a hyperparameters.json and decode its values; empty if there is no such file.

    Raises:
        TrainingError: the file does not hold a JSON object.
    """
    return decode_hyperparameters(_read_object(path), raw=raw)


def decode_hyperparameters(values: Mapping[str, Any], *, raw: bool = False) -> dict[str, Any]:
    """Decode each text that is JSON; other texts and values stay as they are.

    Args:
        values: by name.
        raw: leave the texts of the user's own hyperparameters as they are, and make texts of other
            values, as the guide says: a dict of string to string.

    Source: CONTRACT A2.  The SDK writes every value as JSON; people write ``adam``.
    """
    decoded = {name: _decode(value) for name, value in values.items()}
    if not raw:
        return decoded
    return {**_to_texts(values), **{n: v for n, v in decoded.items() if n.startswith(_SYSTEM)}}


def _to_texts(values: Mapping[str, Any]) -> dict[str, Any]:
    """The same values, those of the user's hyperparameters as texts."""
    return {
        name: value if isinstance(value, str) or name.startswith(_SYSTEM) else json.dumps(value)
        for name, value in values.items()
    }


def _decode(value: Any) -> Any:
    try:
        return json.loads(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _read_channels(path: Path) -> dict[str, Any]:
    """The channels in an inputdataconfig.json, each an object."""
    channels = _read_object(path)
    for name, channel in channels.items():
        if not isinstance(channel, dict):
            kind = type(channel).__name__
            raise TrainingError(f"{path}: channel {name} is a JSON {kind}, but must be an object")
        if name in ("", ".", "..") or "/" in name:
            raise TrainingError(f"{path}: channel {name!r} cannot be the name of a folder")
    return channels


def _read_object(path: Path) -> dict[str, Any]:
    """The object in a JSON file; empty if there is no such file."""
    if not path.exists():
        return {}
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as exc:
        raise TrainingError(f"cannot read {path}: {exc}") from exc
    if not isinstance(content, dict):
        kind = type(content).__name__
        raise TrainingError(f"{path} holds a JSON {kind}, but must hold an object")
    return content
