"""training.job: what a job is, by SageMaker's files and the command line's options."""

from __future__ import annotations

import json
import socket
import tarfile
import threading

import pytest

from mms_handler.errors import TrainingError
from mms_handler.training import cluster
from mms_handler.training import job as jobs
from mms_handler.training.job import Job, JobOptions, host_name, read_job


@pytest.fixture
def base(tmp_path):
    """Build a folder like /opt/ml, with these files of input/config and this code."""

    def build(code=("train.py",), **files):
        config = tmp_path / "ml" / "input" / "config"
        config.mkdir(parents=True)
        for name, content in files.items():
            text = content if isinstance(content, str) else json.dumps(content)
            (config / f"{name}.json").write_text(text)
        for name in code:
            path = tmp_path / "ml" / "code" / name
            path.parent.mkdir(exist_ok=True)
            path.write_text("")
        return tmp_path / "ml"

    return build


def job_of(tmp_path, **fields) -> Job:
    defaults = {
        "entry_point": tmp_path / "train.py",
        "hyperparameters": {},
        "channels": {},
        "model_dir": tmp_path / "model",
        "output_data_dir": tmp_path / "output" / "data",
    }
    return Job(**{**defaults, **fields})


# --- reading ---------------------------------------------------------------------------------


def test_a_job_of_sagemakers_files(base):
    """Each value comes from its file."""
    config = {"train": {"TrainingInputMode": "File", "ContentType": "text/csv"}}
    resources = {
        "hosts": ["algo-1", "algo-2"],
        "current_host": "algo-2",
        "network_interface_name": "eth7",
    }
    folder = base(
        hyperparameters={"sagemaker_program": "train.py", "epochs": "3", "name": "adam"},
        inputdataconfig=config,
        resourceconfig=resources,
    )
    assert read_job(folder, JobOptions()) == Job(
        entry_point=folder / "code" / "train.py",
        hyperparameters={"sagemaker_program": "train.py", "epochs": 3, "name": "adam"},
        channels={"train": folder / "input" / "data" / "train"},
        model_dir=folder / "model",
        output_data_dir=folder / "output" / "data",
        hosts=("algo-1", "algo-2"),
        current_host="algo-2",
        input_data_config=config,
        base_dir=folder,
        network_interface="eth7",
        source_dir=folder / "code",
        resources=resources,
    )


def test_a_job_without_files(tmp_path):
    """The options are enough; a script that exists is used where it is."""
    script = tmp_path / "train.py"
    script.write_text("")
    job = read_job(tmp_path / "ml", JobOptions(entry_point=str(script)))
    assert (job.entry_point, job.source_dir, job.code_dir) == (script, None, tmp_path)
    assert (job.hosts, job.current_host, job.network_interface) == (("algo-1",), "algo-1", "eth0")
    assert (job.channels, job.input_data_config, job.hyperparameters) == ({}, {}, {})
    assert job.model_dir == tmp_path / "ml" / "model"
    assert job.output_data_dir == tmp_path / "ml" / "output" / "data"
    assert job.output_dir == tmp_path / "ml" / "output"
    assert (job.checkpoint_dir, job.seed) == (tmp_path / "ml" / "checkpoints", None)


def test_options_override_the_files(base, tmp_path):
    """Each of them; a channel of the options is in FILE mode."""
    folder = base(
        hyperparameters={"sagemaker_program": "train.py", "epochs": "3", "lr": "0.1"},
        inputdataconfig={
            "train": {"TrainingInputMode": "Pipe"},
            "test": {"TrainingInputMode": "File"},
        },
        resourceconfig={"hosts": ["a", "b"], "current_host": "b"},
        checkpointconfig={"LocalPath": "/elsewhere"},
        code=("train.py", "other.py"),
    )
    options = JobOptions(
        entry_point="other.py",
        channels={"train": tmp_path / "here"},
        hyperparameters={"epochs": 9},
        hosts=("c", "d"),
        current_host="d",
        model_dir=tmp_path / "m",
        output_data_dir=tmp_path / "o",
        checkpoint_dir=tmp_path / "c",
        seed=7,
    )
    job = read_job(folder, options)
    assert job.entry_point == folder / "code" / "other.py"
    assert job.hyperparameters == {"sagemaker_program": "train.py", "epochs": 9, "lr": 0.1}
    test = folder / "input" / "data" / "test"
    assert job.channels == {"train": tmp_path / "here", "test": test}
    assert job.input_data_config == {"test": {"TrainingInputMode": "File"}}
    assert (job.hosts, job.current_host) == (("c", "d"), "d")
    assert (job.model_dir, job.output_data_dir) == (tmp_path / "m", tmp_path / "o")
    assert (job.checkpoint_dir, job.seed) == (tmp_path / "c", 7)


@pytest.mark.parametrize("seed", [0, 2**31 - 1])
def test_the_first_and_the_last_seed(tmp_path, seed):
    script = tmp_path / "train.py"
    script.write_text("")
    job = read_job(tmp_path / "ml", JobOptions(entry_point=str(script), seed=seed))
    job.check()
    assert job.seed == seed


@pytest.mark.parametrize(
    ("config", "name"),
    [
        ({"S3Uri": "s3://bucket/c", "LocalPath": "/data/c"}, "/data/c"),
        ({"S3Uri": "s3://bucket/c"}, "checkpoints"),
        ({"LocalPath": ""}, "checkpoints"),
    ],
)
def test_the_folder_of_checkpoints(base, config, name):
    """The one that SageMaker copies, if it names one; else the guide's."""
    folder = base(hyperparameters={"sagemaker_program": "train.py"}, checkpointconfig=config)
    assert read_job(folder, JobOptions()).checkpoint_dir == folder / name


@pytest.mark.parametrize(
    ("hosts", "current"), [(("b", "a"), "b"), ((), "algo-1")], ids=["the first one", "one host"]
)
def test_the_current_host_is_the_first_one_that_is_named(base, hosts, current):
    """Unless something says otherwise."""
    folder = base(hyperparameters={"sagemaker_program": "train.py"})
    assert read_job(folder, JobOptions(hosts=hosts)).current_host == current


@pytest.mark.parametrize(
    ("resources", "options", "name"),
    [
        ({"hosts": ["algo-1", "algo-2"], "current_host": "algo-2"}, {}, "algo-2"),
        ({"current_host": "algo-2"}, {"current_host": "algo-9"}, "algo-9"),
        ({"hosts": ["algo-3"]}, {}, "algo-3"),
        ({}, {"hosts": ["algo-4", "algo-5"]}, "algo-4"),
        ({}, {}, "algo-1"),
        ("{", {}, socket.gethostname()),
        ("[]", {}, socket.gethostname()),
        ({"hosts": 3}, {}, socket.gethostname()),
    ],
)
def test_the_name_of_this_host(base, resources, options, name):
    """An option's, the file's, the first host's; the machine's if the file cannot be read."""
    assert host_name(base(resourceconfig=resources), **options) == name


def test_hosts_are_sorted(base):
    """So hosts[0], which scripts and the SM_ variables take for the leader, is the first host."""
    folder = base(hyperparameters={"sagemaker_program": "train.py"})
    job = read_job(folder, JobOptions(hosts=("algo-2", "algo-10", "algo-1")))
    assert job.hosts == ("algo-1", "algo-10", "algo-2")
    assert job.first_host == job.hosts[0]


def test_channels(base):
    """Those in PIPE mode have no folder; a hyperparameter can name a part of one."""
    file = {"TrainingInputMode": "File"}
    folder = base(
        hyperparameters={
            "sagemaker_program": "train.py",
            "sagemaker_s3_uri_part": "fold/1",
            "sagemaker_s3_uri_gone": "fold/2",
        },
        inputdataconfig={
            "pipe": {"TrainingInputMode": "Pipe"},
            "part": file,
            "gone": file,
            "plain": {},
        },
    )
    data = folder / "input" / "data"
    (data / "part" / "fold" / "1").mkdir(parents=True)
    assert read_job(folder, JobOptions()).channels == {
        "part": data / "part" / "fold" / "1",
        "gone": data / "gone",
        "plain": data / "plain",
    }


def test_a_source_folder_is_used_where_it_is(base, tmp_path):
    """The script is named in it; nothing is fetched."""
    (tmp_path / "src").mkdir()
    options = JobOptions(entry_point="train.py", source_dir=str(tmp_path / "src"))
    job = read_job(base(), options)
    assert (job.entry_point, job.source_dir) == (tmp_path / "src/train.py", tmp_path / "src")


def test_a_source_archive_is_fetched(base, tmp_path):
    """Into BASE/code.  The hyperparameter's only if nothing is there, the option's always."""
    archive = tmp_path / "source.tar.gz"
    (tmp_path / "new.py").write_text("print()")
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(tmp_path / "new.py", "new.py")
    submitted = {"sagemaker_program": "new.py", "sagemaker_submit_directory": str(archive)}
    folder = base(hyperparameters=submitted)
    read_job(folder, JobOptions())
    assert [path.name for path in (folder / "code").iterdir()] == ["train.py"]
    job = read_job(folder, JobOptions(source_dir=str(archive)))
    assert job.entry_point == folder / "code" / "new.py"
    assert job.entry_point.read_text() == "print()"
    for path in (folder / "code").iterdir():
        path.unlink()
    assert read_job(folder, JobOptions()).entry_point.read_text() == "print()"


@pytest.mark.parametrize(("host", "other"), [(1, 2), (2, 1)], ids=["the first", "another"])
def test_code_that_one_host_cannot_fetch(base, host, other):
    """The other hosts, which wait for this one, learn why it does not come."""
    hosts, port = ("127.0.0.1", "127.0.0.2"), cluster.local_port()
    current, others = f"127.0.0.{host}", f"127.0.0.{other}"
    lost = []

    def wait_for_the_host():
        with pytest.raises(TrainingError) as caught, cluster.joined(
            hosts,
            others,
            addresses={name: name for name in hosts},
            env={},
            port=port,
            parameter_server=False,
        ) as member:
            member.finished()
        lost.append(str(caught.value))

    thread = threading.Thread(target=wait_for_the_host)
    thread.start()
    values = {
        "sagemaker_program": "train.py",
        "sagemaker_submit_directory": "/nowhere/code.tar.gz",
        "_ps_port": str(port),
    }
    resources = {"hosts": hosts, "current_host": current}
    reason = "the code /nowhere/code.tar.gz does not exist"
    with pytest.raises(TrainingError, match=f"^{reason}$"):
        read_job(base((), hyperparameters=values, resourceconfig=resources), JobOptions())
    thread.join(20)
    assert lost == [f"host {current} was lost: fetching the code: {reason}"]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "^no script is named; use --entry-point, or the hyperparameter sagemaker_program$"),
        ({"resourceconfig": "[1]"}, "resourceconfig.json holds a JSON list, but must hold an obj"),
        ({"hyperparameters": "{"}, "^cannot read .*hyperparameters.json: "),
        (
            {"inputdataconfig": '{"train": "File"}'},
            "inputdataconfig.json: channel train is a JSON str, but must be an object$",
        ),
        *(
            ({"inputdataconfig": {name: {}}}, f"channel '{name}' cannot be the name of a folder$")
            for name in ("..", "a/b", "")
        ),
    ],
)
def test_files_that_say_nothing(base, files, message):
    with pytest.raises(TrainingError, match=message):
        read_job(base(**files), JobOptions())


def test_hyperparameters_are_decoded():
    """Texts that are JSON; anything else stays."""
    texts = {"a": "1", "b": "[1, 2]", "c": "adam", "d": '"x"', "e": 5, "f": "true", "g": ""}
    values = {"a": 1, "b": [1, 2], "c": "adam", "d": "x", "e": 5, "f": True, "g": ""}
    assert jobs.decode_hyperparameters(texts) == values


def test_raw_hyperparameters(base):
    """The user's are texts, as the guide says; SageMaker's own are decoded as ever."""
    files = {
        "hyperparameters": {
            "epochs": "3",
            "name": '"adam"',
            "rate": 0.5,
            "sagemaker_program": '"a.py"',
        }
    }
    options = JobOptions(
        entry_point="a.py",
        hyperparameters={"layers": [1, 2], "sagemaker_x": [1], "_ps_port": 77},
        raw_hyperparameters=True,
    )
    folder = base(**files)
    assert read_job(folder, options).hyperparameters == {
        "epochs": "3",
        "name": '"adam"',
        "rate": "0.5",
        "sagemaker_program": "a.py",
        "layers": "[1, 2]",
        "sagemaker_x": [1],
        "_ps_port": 77,
    }
    plain = read_job(folder, options._replace(raw_hyperparameters=False)).hyperparameters
    assert (plain["epochs"], plain["name"], plain["layers"]) == (3, "adam", [1, 2])


# --- asking ----------------------------------------------------------------------------------


def test_the_first_host_is_the_first_by_name(tmp_path):
    job = job_of(tmp_path, hosts=("algo-2", "algo-1"))
    assert job.first_host == "algo-1"


def test_the_jobs_name(tmp_path):
    """The hyperparameter comes first."""
    variables = {"TRAINING_JOB_NAME": "by-variable"}
    named = job_of(tmp_path, hyperparameters={"sagemaker_job_name": "by-parameter"})
    assert named.name(variables) == "by-parameter"
    assert job_of(tmp_path).name(variables) == "by-variable"
    assert job_of(tmp_path).name({}) == ""


def test_the_region(tmp_path):
    """The hyperparameter, else the first variable that is not empty."""
    variables = {"SAGEMAKER_REGION": "r1", "AWS_REGION": "r2", "AWS_DEFAULT_REGION": "r3"}
    named = job_of(tmp_path, hyperparameters={"sagemaker_region": "r0"})
    assert named.region(variables) == "r0"
    job = job_of(tmp_path)
    assert job.region(variables) == "r1"
    assert job.region({**variables, "SAGEMAKER_REGION": ""}) == "r2"
    assert job.region({"AWS_DEFAULT_REGION": "r3"}) == "r3"
    assert job.region({}) == ""


def test_whole_numbers(tmp_path):
    job = job_of(tmp_path, hyperparameters={"a": "7", "b": "x", "c": None, "d": 4.0})
    assert [job.whole_number(name, 9) for name in "ade"] == [7, 4, 9]
    for name, value in (("b", "'x'"), ("c", "None")):
        message = f"^hyperparameter {name}: {value} is not a whole number$"
        with pytest.raises(TrainingError, match=message):
            job.whole_number(name, 9)


def test_a_job_that_can_start(tmp_path):
    """A script that is there, or a package's name beside its setup.py."""
    (tmp_path / "train.py").write_text("")
    (tmp_path / "data").mkdir()
    job_of(tmp_path, channels={"train": tmp_path / "data"}).check()
    package = job_of(tmp_path, entry_point=tmp_path / "package")
    with pytest.raises(TrainingError, match="package does not exist$"):
        package.check()
    (tmp_path / "setup.py").write_text("")
    package.check()
    with pytest.raises(TrainingError, match="other.py does not exist$"):
        job_of(tmp_path, entry_point=tmp_path / "other.py").check()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"channels": {"test": "nowhere"}}, "^channel test: the folder .*nowhere does not exist$"),
        (
            {"hosts": ("a", "b"), "current_host": "c"},
            "^the current host c is not among the hosts a, b; correct --hosts and --current-host",
        ),
    ],
)
def test_a_job_that_cannot_start(tmp_path, fields, message):
    (tmp_path / "train.py").write_text("")
    if "channels" in fields:
        fields = {"channels": {"test": tmp_path / fields["channels"]["test"]}}
    with pytest.raises(TrainingError, match=message):
        job_of(tmp_path, **fields).check()


@pytest.mark.parametrize("source_dir", [None, "src"])
def test_a_job_for_another_process(tmp_path, source_dir):
    """It is the same there."""
    job = job_of(
        tmp_path,
        hyperparameters={"a": [1, {"b": None}]},
        channels={"train": tmp_path / "train"},
        hosts=("a", "b"),
        current_host="b",
        source_dir=source_dir and tmp_path / source_dir,
        base_dir=tmp_path,
        resources={"hosts": ["a", "b"]},
    )
    assert Job.from_json(job.to_json()) == job
    assert job.code_dir == tmp_path / (source_dir or "")
