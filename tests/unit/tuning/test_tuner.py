"""tuning.tuner: what is tuned, before a server starts, and what is said if nothing fits."""

from __future__ import annotations

import json
import zipfile

import pytest

from mms_handler import archive
from mms_handler.bench.order import Timing
from mms_handler.bench.target import Request
from mms_handler.errors import ServerError
from mms_handler.settings import Settings
from mms_handler.tuning.candidate import Candidate
from mms_handler.tuning.trial import Trial
from mms_handler.tuning.tuner import CLIENTS, Limits, Tuner, check_fits, clients_of_rounds

REQUEST = Request(b"[[1, 2]]", "application/json", "*/*", {"body": "[3.0]"}, "a body")


def tuner(path, **limits) -> Tuner:
    return Tuner(path, REQUEST, Settings(), Limits(**limits), Timing())


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "iris"
    folder.mkdir()
    (folder / "net.params").write_bytes(b"weights")
    return folder


def test_batches_are_tried_of_our_handler_alone(folder, tmp_path):
    """Another tool's may take no batches."""
    ours = archive.pack(folder, tmp_path / "iris.mar")
    theirs = tmp_path / "theirs.mar"
    with zipfile.ZipFile(theirs, "w") as made:
        model = {"modelName": "theirs", "handler": "service:handle"}
        made.writestr("MAR-INF/MANIFEST.json", json.dumps({"runtime": "python", "model": model}))
        made.writestr("service.py", "def handle(data, context): return [b'']\n")
    assert 8 in tuner(folder).space.batches
    assert 8 in tuner(ours).space.batches
    assert tuner(theirs).space.batches == [None]


def test_without_an_int8_graph_replies_are_checked(folder, tmp_path):
    """With one, the float graph answers other numbers: see tests/e2e/test_tune.py."""
    made = tuner(archive.pack(folder, tmp_path / "iris.mar"))
    assert made._request.reply == {"body": "[3.0]"}
    assert made.space.graphs == (None,)


def test_the_key_knows_the_model_and_the_limits(folder, tmp_path):
    """A state of another model, or of other limits, is not gone on with."""
    path = archive.pack(folder, tmp_path / "iris.mar")
    key = tuner(path).key()
    assert key == tuner(path).key()
    archive.write_tuned(path, Candidate(workers=1).tuned(2), path)
    assert key == tuner(path).key()
    assert key != tuner(path, p99_ms=5).key()
    (folder / "net.params").write_bytes(b"others")
    assert key != tuner(archive.pack(folder, path, force=True)).key()


def test_nothing_fits():
    slow = Trial(Candidate(), 0, reason="p99 70.1 ms")
    large = Trial(Candidate(workers=2), 0, reason="900 MB")
    check_fits([slow, Trial(Candidate(), 1, rate=3.0)], Limits())
    with pytest.raises(
        ServerError,
        match=r"^nothing keeps to --p99-ms 50 and --memory-mb 800 \(the defaults: p99 70.1 ms; "
        r"workers 2: 900 MB\); allow more, or send less at a time$",
    ):
        check_fits([slow, large], Limits(50, 800))
    with pytest.raises(ServerError, match="^nothing keeps to right replies "):
        check_fits([slow], Limits())


def test_rounds_have_the_same_clients_for_all():
    """Else the defaults would lose whose short trial was disturbed when there were more clients."""
    one, two, other = Candidate(workers=1), Candidate(workers=2), Candidate(workers=4)
    short = [
        Trial(Candidate(), 0, clients=2, rate=100),
        Trial(one, 0, clients=32, rate=900),
        Trial(two, 0, clients=32, rate=800),
        Trial(other, 0, clients=8, rate=700),
        Trial(Candidate(workers=8), 0, clients=16, rate=90),
        Trial(one, 1, clients=64, rate=1000),
    ]
    assert clients_of_rounds(short) == [2, 8, 32]
    assert clients_of_rounds(short[:1]) == [2]
    assert clients_of_rounds([]) == CLIENTS
