"""tuning.tuner: what is tuned, before a server starts, and what is said if nothing fits."""

from __future__ import annotations

import contextlib
import json
import zipfile

import pytest
from bench.servers import RIGHT, answering

from mms_handler import archive
from mms_handler.bench import target as targets
from mms_handler.bench.order import Load, Timing
from mms_handler.bench.result import Measured, Result
from mms_handler.bench.target import Request
from mms_handler.bench.usage import Used
from mms_handler.codecs import compiled
from mms_handler.errors import ServerError
from mms_handler.manifest import Quantized
from mms_handler.server.machine import this_machine
from mms_handler.settings import Settings
from mms_handler.tuning import tuner as tuners
from mms_handler.tuning.candidate import Candidate
from mms_handler.tuning.trial import State, Trial
from mms_handler.tuning.tuner import (
    CLIENTS,
    Interrupted,
    Limits,
    Tuner,
    best_within,
    check_fits,
    clients_of_rounds,
)

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
    path = archive.pack(folder, tmp_path / "iris.mar")
    made = tuner(path)
    assert made._request.reply == {"body": "[3.0]"}
    assert made.space.graphs == (None,)
    assert made.space.cores == (None, "off")[: 2 if compiled.core else 1]
    entry = Quantized("int8", "int8.json", 1, 1, 1, 1, 1, 0.1, 0.1)
    packed = archive.manifest_of(path)._replace(quantized=entry)
    with_int8 = tuner_of(packed, path)
    assert with_int8._request == REQUEST._replace(reply=None)
    assert with_int8.space.graphs == (None, "float")


def tuner_of(packed, path) -> Tuner:
    """A tuner of an archive with another manifest."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(archive, "manifest_of", lambda path: packed)
        return tuner(path)


@pytest.fixture
def measured(folder, monkeypatch):
    """A tuner whose trials begin, and fail; what it says, and the clients that they have."""
    made, calls = tuner(folder), []
    made.note = lambda line: calls.append(line)
    attempt = made._try
    made._try = lambda *arguments: calls.append(arguments[2]) or attempt(*arguments)

    def served(path, settings, log, *, use_tuned):
        assert use_tuned is False
        calls.append((settings.workers, settings.port))
        raise ServerError("it does not start\nbecause")

    monkeypatch.setattr(targets, "served", served)
    return made, calls


def test_a_trial_whose_server_does_not_start(measured, tmp_path):
    """It is kept, so nobody measures it again; a round has the clients of the best trials."""
    made, calls = measured
    state = State(tmp_path / "state", {})
    measure, two = made.trying(state), Candidate(workers=2)
    expected = Trial(two, 0, 0, 0, 0, 0, "it does not start")
    assert [measure(two, 0), measure(two, 0)] == [expected] * 2
    port = Settings().port
    assert calls == [(2, 8, 32), "workers 2: ", (2, port)]
    state.add(Trial(Candidate(), 0, clients=8, rate=10))
    calls.clear()
    assert measure(Candidate(), 3).reason == "it does not start"
    assert calls == [[8], "round 3, the defaults: ", (None, port)]
    assert [trial.round for trial in state.trials] == [0, 0, 3]
    assert State(tmp_path / "state", {}).trials == state.trials


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


def test_the_key_knows_all_that_was_measured(folder):
    """Also a folder's files, the request and how long a trial is."""
    key = tuner(folder).key()
    assert key == tuner(folder).key()
    assert sorted(key) == ["cpus", "limits", "model", "request", "timing", "version"]
    others = [
        Tuner(folder, REQUEST._replace(body=b"[[1, 3]]"), Settings(), Limits(), Timing()),
        Tuner(folder, REQUEST, Settings(), Limits(), Timing(seconds=9)),
        Tuner(folder, REQUEST, Settings(), Limits(memory_mb=9), Timing()),
    ]
    changed = [{name for name in key if other.key()[name] != key[name]} for other in others]
    assert changed == [{"request"}, {"timing"}, {"limits"}]
    (folder / "net.params").write_bytes(b"weight")
    assert key != (smaller := tuner(folder).key())
    (folder / "a.txt").write_bytes(b"")
    assert smaller != tuner(folder).key()


def test_an_archive_without_hashes_is_known_by_its_bytes(tmp_path):
    """As another tool packs them."""
    path = tmp_path / "theirs.mar"
    keys = []
    for weights in ("a", "a", "b"):
        with zipfile.ZipFile(path, "w") as made:
            model = {"modelName": "theirs", "handler": "service:handle"}
            manifest = zipfile.ZipInfo("MAR-INF/MANIFEST.json")
            made.writestr(manifest, json.dumps({"runtime": "python", "model": model}))
            made.writestr(zipfile.ZipInfo("net.params"), weights)
        keys.append(tuner(path).key())
    assert keys[0] == keys[1] != keys[2]


def test_a_round_takes_longer_than_a_short_trial(folder):
    made = Tuner(folder, REQUEST, Settings(), Limits(), Timing(warmup_s=1, seconds=3, timeout_s=4))
    assert made._timing_of(0) == (1, 3, 4)
    assert made._timing_of(1) == made._timing_of(2) == (1, 6, 4)


def result(clients, replies=0, ms=10, *, errors=0, wrong=0, mb=None) -> Result:
    """What was measured in two seconds, with ``mb`` of memory on this machine."""
    measured = Measured(Load(clients=clients))
    for _ in range(replies):
        measured.latencies.record_value(1000 * ms)
    measured.in_time, measured.wrong = replies, wrong
    measured.failures.update({"status 503": errors} if errors else {})
    return Result(measured, 2, None if mb is None else Used(0, 0, mb - 100, 100, 1))


@pytest.mark.parametrize(
    ("results", "limits", "expected"),
    [
        ([result(2, 100), result(8, 300), result(32, 200)], Limits(), (8, 150, "")),
        ([result(2, 100, 9), result(8, 300, 11)], Limits(p99_ms=10), (2, 50, "")),
        ([result(2, 100, 11), result(8, 300, 12)], Limits(p99_ms=10), (2, 0, "p99 11.0 ms")),
        ([result(2, 100, mb=500), result(8, 300, mb=501)], Limits(memory_mb=500), (2, 50, "")),
        ([result(2, 100, mb=501.2)], Limits(memory_mb=500), (2, 0, "501 MB")),
        ([result(2, 100)], Limits(memory_mb=1), (2, 50, "")),
        ([result(2, 100), result(8, 300, errors=2)], Limits(), (2, 50, "")),
        ([result(2, 9, errors=2, wrong=1)], Limits(), (2, 0, "2 errors, 1 wrong replies")),
        ([result(2)], Limits(p99_ms=10), (2, 0, "0 errors, 0 wrong replies")),
    ],
    ids=[
        *("the fastest", "within a latency", "no latency", "within a memory", "too much memory"),
        *("elsewhere", "without errors", "errors and wrong ones", "nothing"),
    ],
)
def test_a_trial_is_its_best_load_within_the_limits(results, limits, expected):
    trial = best_within(Candidate(workers=3), 2, results, limits)
    assert (trial.candidate, trial.round) == (Candidate(workers=3), 2)
    assert (trial.clients, trial.rate, trial.reason) == expected


def test_a_trial_on_a_server(folder, monkeypatch):
    """Each number of clients is measured; Ctrl-C ends all trials."""
    monkeypatch.setattr(tuners, "CLIENTS", (1, 2))
    timing = Timing(warmup_s=0, seconds=0.6, timeout_s=5)
    made = Tuner(folder, REQUEST._replace(reply=None), Settings(), Limits(), timing)
    shown = []
    made.watch = lambda start, measured: shown.append((start, measured.load.clients))
    with answering(lambda number: RIGHT) as port:
        url = f"http://127.0.0.1:{port}/x"
        monkeypatch.setattr(targets, "served", lambda *_, **__: contextlib.nullcontext(url))
        trial = made.trying(State(folder / "state", {}))(Candidate(), 0)
        assert trial.rate > 0
        assert (trial.reason, trial.clients in (1, 2)) == ("", True)
        assert set(shown) == {("the defaults: ", 1), ("the defaults: ", 2)}

        def interrupt(start, measured):
            raise KeyboardInterrupt

        made.watch = interrupt
        state = State(folder / "other", {})
        with pytest.raises(Interrupted):
            made.trying(state)(Candidate(), 0)
        assert state.trials == []


def test_the_limit_itself_is_within_it():
    made = result(2, 9, 10)
    p99_ms = made.measured.ms(99)
    for limit, reason in ((p99_ms, ""), (p99_ms - 0.001, f"p99 {p99_ms:.1f} ms")):
        assert best_within(Candidate(), 0, [made], Limits(p99_ms=limit)).reason == reason


@pytest.mark.parametrize(("cpus", "most"), [(0.5, 2), (1.9, 2), (3.9, 6)])
def test_what_a_machine_has_cores_for(folder, monkeypatch, cpus, most):
    """Twice as many workers as whole cores are tried, of which there is one at least."""
    machine = this_machine()._replace(cpus=cpus)
    monkeypatch.setattr(tuners, "this_machine", lambda: machine)
    made = tuner(folder)
    assert max(workers or 0 for workers, _ in made.space.pairs) == most
    assert made.key()["cpus"] == cpus


def test_what_a_trial_says():
    trial = best_within(Candidate(), 0, [result(2, 3, 10, mb=512.34)], Limits())
    assert trial.p99_ms == pytest.approx(10, rel=1e-3)
    assert (trial.rate, trial.mb) == (1.5, 512.3)
    assert best_within(Candidate(), 0, [result(2)], Limits())[3:6] == (0, 0, 0)
    slow = result(2, 98)
    for ms in (20, 60):
        slow.measured.latencies.record_value(1000 * ms)
    p99_ms = best_within(Candidate(), 0, [slow], Limits()).p99_ms
    assert p99_ms == pytest.approx(20, rel=1e-3)  # not the largest of a hundred
    third = result(2, 1)._replace(seconds=3)
    assert best_within(Candidate(), 0, [third], Limits()).rate == 0.3


def test_what_is_asked_of_nothing_fits():
    """Only the limits that there are; the first three trials."""
    trials = [Trial(Candidate(workers=n), 0, reason=f"{n} MB") for n in (1, 2, 3, 4)]
    with pytest.raises(ServerError) as caught:
        check_fits(trials, Limits(memory_mb=5))
    assert str(caught.value) == (
        "nothing keeps to --memory-mb 5 (workers 1: 1 MB; workers 2: 2 MB; workers 3: 3 MB); "
        "allow more, or send less at a time"
    )


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
        Trial(Candidate(workers=8), 0, clients=16, rate=150),
        Trial(one, 1, clients=64, rate=1000),
    ]
    assert clients_of_rounds(short) == [2, 8, 32]
    assert clients_of_rounds(short[:1]) == [2]
    assert clients_of_rounds([]) == CLIENTS
