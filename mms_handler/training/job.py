"""One host's part of a training job, read from SageMaker's folders and from options.

BASE/input/config/{hyperparameters,inputdataconfig,resourceconfig}.json
BASE/input/data/CHANNEL/    BASE/code/    BASE/model/    BASE/output/{data/,success,failure}
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any, Callable, Mapping, NamedTuple

from mms_handler.errors import TrainingError
from mms_handler.training import code

#: What a channel's configuration says when nothing else does.
FILE_MODE = {
    "TrainingInputMode": "File",
    "S3DistributionType": "FullyReplicated",
    "RecordWrapperType": "None",
}


class Job(NamedTuple):
    """One host's part of a training, with what SageMaker tells a script about it."""

    entry_point: Path  # the script
    hyperparameters: Mapping[str, Any]
    channels: Mapping[str, Path]  # name to folder; those in PIPE mode have none
    model_dir: Path
    output_data_dir: Path
    hosts: tuple[str, ...] = ("algo-1",)
    current_host: str = "algo-1"
    input_data_config: Mapping[str, Any] | None = None  # None: every channel in FILE mode
    base_dir: Path = Path()
    network_interface: str = "eth0"
    source_dir: Path | None = None  # the folder of the code, if it is not the script's own
    resources: Mapping[str, Any] = {}  # resourceconfig.json, whole

    @property
    def code_dir(self) -> Path:
        """The folder that siblings of the script are in."""
        return (self.source_dir or self.entry_point.parent).resolve()

    @property
    def output_dir(self) -> Path:
        """Where success and failure are told."""
        return self.base_dir / "output"

    @property
    def first_host(self) -> str:
        """The host that saves, and schedules the parameter server."""
        return sorted(self.hosts)[0]

    def check(self) -> None:
        """Find what can be wrong before anything is run.

        Raises:
            TrainingError: no script, a channel that is not there, a host that is not among the
                hosts.
        """
        packaged = not self.entry_point.suffix and (self.code_dir / "setup.py").is_file()
        if not (self.entry_point.is_file() or packaged):
            raise TrainingError(f"there is no script {self.entry_point}")
        for name, folder in self.channels.items():
            if not folder.is_dir():
                raise TrainingError(f"channel {name}: there is no folder {folder}")
        if self.current_host not in self.hosts:
            raise TrainingError(f"host {self.current_host} is not among {', '.join(self.hosts)}")

    def to_json(self) -> str:
        """The job as text, for the process that trains."""
        return json.dumps(self._asdict(), default=str)

    @classmethod
    def from_json(cls, text: str) -> Job:
        """What ``to_json`` gave."""
        read = json.loads(text)
        paths = ("entry_point", "model_dir", "output_data_dir", "base_dir", "source_dir")
        return cls(
            **{
                **read,
                **{name: Path(read[name]) for name in paths if read[name]},
                "channels": {name: Path(folder) for name, folder in read["channels"].items()},
                "hosts": tuple(read["hosts"]),
            }
        )


class Folders(NamedTuple):
    """What SageMaker's three files say; empty where there are none."""

    hyperparameters: dict[str, Any]
    input_data_config: dict[str, Any]
    resources: dict[str, Any]

    @classmethod
    def read(cls, base_dir: Path) -> Folders:
        """Read ``base_dir``/input/config.

        Raises:
            TrainingError: a file is not an object of JSON.
        """
        config = base_dir / "input" / "config"
        return cls(
            hyperparameters(config / "hyperparameters.json"),
            _object(config / "inputdataconfig.json"),
            _object(config / "resourceconfig.json"),
        )


class Options(NamedTuple):
    """What the command line says of a job; it wins over SageMaker's files."""

    entry_point: str | None = None
    source_dir: str | None = None
    channels: Mapping[str, Path] = {}
    hyperparameters: Mapping[str, Any] = {}
    hosts: tuple[str, ...] = ()
    current_host: str | None = None
    model_dir: Path | None = None
    output_data_dir: Path | None = None


def read(base_dir: Path, options: Options, fetched: Callable[[int], None] | None = None) -> Job:
    """The job that ``base_dir`` and ``options`` describe, its code in place.

    Args:
        base_dir: /opt/ml, or a folder like it; may lack all that options give.
        options: the command line's.
        fetched: told the bytes of a source that is downloaded, as they come.

    Raises:
        TrainingError: a file cannot be read, or there is no script.
    """
    folders = Folders.read(base_dir)
    given = {**folders.hyperparameters, **options.hyperparameters}
    own = {name: dict(FILE_MODE) for name in options.channels}
    config = {**folders.input_data_config, **own}
    script, folder = _script(base_dir, options, given, fetched)
    hosts = options.hosts or tuple(folders.resources.get("hosts", ())) or ("algo-1",)
    return Job(
        entry_point=script,
        hyperparameters=given,
        channels={**channels(base_dir, config, given), **options.channels},
        model_dir=options.model_dir or base_dir / "model",
        output_data_dir=options.output_data_dir or base_dir / "output" / "data",
        hosts=hosts,
        current_host=options.current_host or folders.resources.get("current_host") or hosts[0],
        input_data_config=config,
        base_dir=base_dir,
        network_interface=folders.resources.get("network_interface_name", "eth0"),
        source_dir=folder,
        resources=folders.resources,
    )


def _script(
    base_dir: Path,
    options: Options,
    given: Mapping[str, Any],
    fetched: Callable[[int], None] | None,
) -> tuple[Path, Path | None]:
    """The script and the folder of its code, fetched where it has to be."""
    program = options.entry_point or given.get("sagemaker_program")
    if not program:
        raise TrainingError("no script: name one with --entry-point, or in sagemaker_program")
    source = options.source_dir or given.get("sagemaker_submit_directory")
    if source is None and options.entry_point and Path(program).exists():
        return Path(program), None
    if options.source_dir and Path(options.source_dir).is_dir():
        folder = Path(options.source_dir)  # a person's own folder is used as it is
        return folder / program, folder
    folder = base_dir / "code"
    if source:
        code.fetch(
            source,
            folder,
            region=given.get("sagemaker_region"),
            progress=fetched,
            replace=options.source_dir is not None,
        )
    return folder / str(program), folder


def channels(
    base_dir: Path, input_data_config: Mapping[str, Any], given: Mapping[str, Any]
) -> dict[str, Path]:
    """The folders of the channels; one in PIPE mode has none, as the guide says.

    Args:
        base_dir: has input/data.
        input_data_config: SageMaker's, by channel.
        given: hyperparameters; ``sagemaker_s3_uri_CHANNEL`` names a part of a channel.
    """
    folders = {}
    for name, config in input_data_config.items():
        folder = base_dir / "input" / "data" / name
        part = folder / str(given.get(f"sagemaker_s3_uri_{name}", ""))
        if config.get("TrainingInputMode") != "Pipe":
            folders[name] = part if part.exists() else folder
    return folders


def hyperparameter(text: str) -> Any:
    """A hyperparameter's value: decoded where ``text`` is JSON, else ``text`` itself.

    Source: CONTRACT A2; the SDK writes every value as JSON, people write ``adam``.
    """
    try:
        return json.loads(text)
    except ValueError:
        return text


def hyperparameters(path: Path) -> dict[str, Any]:
    """Read a hyperparameters.json: an object whose texts are JSON where they can be.

    Raises:
        TrainingError: it is not an object of JSON.
    """
    return {k: hyperparameter(v) if isinstance(v, str) else v for k, v in _object(path).items()}


def _object(path: Path) -> dict[str, Any]:
    """A JSON file's object; an empty one where there is no file."""
    if not path.exists():
        return {}
    try:
        read = json.loads(path.read_text())
    except (OSError, ValueError) as exc:
        raise TrainingError(f"{path} cannot be read: {exc}") from exc
    if not isinstance(read, dict):
        raise TrainingError(f"{path} holds a {type(read).__name__}, not an object of names")
    return read


def gpu_count() -> int:
    """GPUs of this host, as ``nvidia-smi`` lists them; 0 without it."""
    try:
        listed = subprocess.run(
            ["nvidia-smi", "--list-gpus"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return 0
    return sum(line.startswith("GPU ") for line in listed.stdout.splitlines())
