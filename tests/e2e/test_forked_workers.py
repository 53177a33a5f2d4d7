"""Workers that are forked from a process that has loaded their model, and those that cannot be."""

from __future__ import annotations

import json
import os
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Iterator

import psutil
import pytest
from running_mms import EXAMPLES, Serving, free_ports, is_alive, wait_for, words_of

from mms_handler import client
from mms_handler.names import FORK_SERVER

#: A request is the name of a function; its value is the reply.  Each load is a line of a file.
SCRIPT = """\
import functools, json, os, random, threading, time
import mxnet as mx
import numpy as np

hooks = []
os.register_at_fork(after_in_child=lambda: hooks.append(os.getpid()))
kept = []
{begin}

def model_fn(model_dir, context):
    with open({loads!r}, "a") as file:
        file.write(f"{{os.getpid()}}\\n")
    kept.append(context)
    {load}
    return None

def transform_fn(model, data, content_type, accept, context):
    time.sleep(0.05)  # so that both workers get requests
    value = globals()[json.loads(data)](context)
    return json.dumps([os.getpid(), value]), "application/json"

@functools.lru_cache(None)
def first_numbers():
    return [
        random.random(),
        float(np.random.rand()),
        float(mx.nd.random.uniform(shape=1).asscalar()),
    ]

def numbers(context):
    return first_numbers()

def hook(context):
    return hooks[-1] if hooks else None

def free_much():  # takes 100 MB in small blocks, and frees all but the last, at the heap's end
    c = ctypes.CDLL(None)
    c.malloc.restype = ctypes.c_void_p
    blocks = [ctypes.c_void_p(c.malloc(50_000)) for _ in range(2000)]
    for block in blocks:
        ctypes.memset(block, 1, 50_000)
    for block in blocks[:-1]:
        c.free(block)

def context_of_load(context):
    context = kept[0]
    return [context.get_request_id(0) != "", context.get_request_header(0, "X-Mine")]

def prints(context):
    print("printed")

def end(context):
    os._exit(3)
"""

#: What scripts do at import and when they are loaded, by the model's name.
MODELS = {
    "plain": ("", "pass"),
    "seeded": ("random.seed(7); np.random.seed(7)", "pass"),
    "freed": ("import ctypes", "free_much()"),
    "threads": ("", "threading.Thread(target=time.sleep, args=(1e6,), daemon=True).start()"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Has the models, the log of their server, and for each model the file of its loads."""
    folder = tmp_path_factory.mktemp("forked")
    for name, (begin, load) in MODELS.items():
        (folder / name / "code").mkdir(parents=True)
        text = SCRIPT.format(begin=begin, load=load, loads=str(folder / f"{name}.loads"))
        (folder / name / "code" / "inference.py").write_text(text)
    return folder


@pytest.fixture(scope="module")
def serving(folder) -> Iterator[Serving]:
    """Serves the models with two workers each."""
    paths = [folder / name for name in MODELS]
    with Serving(free_ports(), *paths, "--workers", "2", log=folder / "log") as serving:
        yield serving


def answers(serving: Serving, model: str, function: str) -> dict[int, object]:
    """A first answer of each of the two workers, by their process ids."""

    def ask(_: int) -> list:
        return json.loads(serving.ask(model, json.dumps(function).encode()).body)

    found: dict[int, object] = {}
    with ThreadPoolExecutor(4) as pool:
        while len(found) < 2:
            for pid, value in pool.map(ask, range(4)):
                found.setdefault(pid, value)
    return found


def fork_server(serving: Serving, model: str) -> psutil.Process | None:
    processes = serving.java().children(recursive=True)
    own = [process for process in processes if model in words_of(process)]
    return next((process for process in own if process.name() == FORK_SERVER), None)


def loads(folder: Path, model: str) -> int:
    return len((folder / f"{model}.loads").read_text().splitlines())


def test_the_model_is_loaded_once(serving, folder):
    """In the fork server; both workers are its children, and look like workers."""
    server = fork_server(serving, "plain")
    _, workers = serving.of_model("plain")
    assert [worker.ppid() for worker in workers] == [server.pid, server.pid]
    assert {worker.name() for worker in workers} == {serving.of_model("plain")[0].name()}
    assert (folder / "plain.loads").read_text() == f"{server.pid}\n"
    assert set(answers(serving, "plain", "hook")) == {worker.pid for worker in workers}


def test_the_model_is_in_memory_once(serving):
    """A worker has little of its own; the fork server maps hardly any of the libraries' code."""
    _, workers = serving.of_model("plain")
    answers(serving, "plain", "hook")
    for worker in workers:
        assert worker.memory_full_info().uss < worker.memory_info().rss / 3
    # A process that has imported MXNet has 80 MB of it.
    assert fork_server(serving, "plain").memory_info().shared < 40_000_000


def test_what_the_load_has_freed_is_in_no_process(serving):
    """Also where the memory's last block is not free."""
    _, workers = serving.of_model("freed")
    _, others = serving.of_model("plain")
    for worker in workers:
        assert worker.memory_info().rss < others[0].memory_info().rss + 30_000_000


def test_random_numbers_differ_between_workers(serving):
    """Python's and NumPy's.  MXNet's are the same in all processes that load a model."""
    first, second = answers(serving, "plain", "numbers").values()
    assert [a == b for a, b in zip(first, second)] == [False, False, True]


def test_a_seed_that_a_script_chooses_stays(serving):
    first, second = answers(serving, "seeded", "numbers").values()
    assert first == second
    assert first[:2] == [0.32383276483316237, 0.07630828937395717]


def test_a_scripts_hooks_for_forks_run(serving):
    hooks = answers(serving, "plain", "hook")
    assert list(hooks) == list(hooks.values())


def test_the_context_of_the_load_is_that_of_requests(serving):
    """A script may have kept it."""
    for value in answers(serving, "plain", "context_of_load").values():
        assert value == [True, None]


def test_a_workers_output_has_its_process_id(serving, folder):
    for pid in answers(serving, "plain", "prints"):
        line = re.compile(rf"INFO +plain/{pid} +request \S+: printed$", re.M)
        wait_for(lambda line=line: line.search((folder / "log").read_text()), 20)


def test_a_script_with_a_thread_is_loaded_in_each_worker(serving, folder):
    assert fork_server(serving, "threads") is None
    assert loads(folder, "threads") == 2
    assert len(answers(serving, "threads", "numbers")) == 2
    line = "workers load the model each: the script, or a library, started 1 thread\n"
    assert (folder / "log").read_text().count(line) == 1


def test_a_worker_that_ends_is_replaced_without_a_load(serving, folder):
    """The log says how it ended."""
    before = loads(folder, "seeded")
    old = set(answers(serving, "seeded", "hook"))
    assert serving.ask("seeded", b'"end"').status == 500
    wait_for(lambda: _ended(serving, "seeded", old), 20)
    assert len(set(answers(serving, "seeded", "hook")) - old) == 1
    assert loads(folder, "seeded") == before
    wait_for(lambda: "ended with exit code 3" in (folder / "log").read_text(), 20)


def _ended(serving: Serving, model: str, pids: set[int]) -> bool:
    """Whether the model has two workers, and one of ``pids`` is none."""
    now = {worker.pid for worker in serving.of_model(model)[1] if is_alive(worker)}
    return len(now) == 2 and now != pids


def test_the_fork_server_ends(serving, folder):
    """Its workers go on; the next one loads the model, and becomes another fork server."""
    server = fork_server(serving, "plain")
    before, old = loads(folder, "plain"), set(answers(serving, "plain", "hook"))
    server.kill()
    wait_for(lambda: not is_alive(server), 20)
    assert set(answers(serving, "plain", "hook")) == old
    psutil.Process(old.pop()).kill()
    wait_for(lambda: (new := fork_server(serving, "plain")) and is_alive(new), 60)
    assert len(set(answers(serving, "plain", "hook")) - old) == 1
    assert loads(folder, "plain") == before + 1


def test_the_fork_server_is_stopped(serving):
    """Whoever stops it keeps a model from getting workers, so it is killed like a worker."""
    server, old = fork_server(serving, "seeded"), set(answers(serving, "seeded", "hook"))
    server.suspend()
    psutil.Process(old.pop()).kill()
    wait_for(lambda: not is_alive(server), 20)
    wait_for(lambda: (new := fork_server(serving, "seeded")) and is_alive(new), 60)
    assert len(set(answers(serving, "seeded", "hook")) - old) == 1


def test_the_end_of_workers_and_of_the_server(ports, folder, tmp_path):
    """MMS starts another worker without its second of delay; afterwards no process is left."""
    flags = ("--workers", "2", "--log-level", "debug")
    with Serving(ports, folder / "plain", *flags, log=tmp_path / "log") as serving:
        old = set(answers(serving, "plain", "hook"))
        serving.ask("plain", b'"end"')
        wait_for(lambda: _ended(serving, "plain", old), 20)
        assert re.findall(
            r"Retry worker: \S+ in (\d+) seconds", (tmp_path / "log").read_text()
        ) == ["0"]
        family = serving.java().children(recursive=True)
    assert not any(map(is_alive, family))


def test_sizing_counts_shared_memory_once(ports):
    """In memory in which twelve workers would not fit that load the model each.

    What each will have of its own is asked for: another 40 do not fit, though forking is cheap.
    """
    flags = ("--workers", "12", "--memory-mb", "1500", "--heap-mb", "64")
    with Serving(ports, EXAMPLES / "linear", *flags) as serving:
        before = serving.of_model("linear")[1]
        assert len(before) == 12
        url = f"{serving.management}/models/linear?min_worker=52"
        answer = client.call("PUT", url, timeout_s=60)
        assert answer.status == 507
        assert "linear with 40 more workers needs about 1280 MB, but only " in answer.message()
        assert serving.of_model("linear")[1] == before
        answers = {serving.ask("linear").body for _ in range(20)}
        assert answers == {REPLIES["linear"][2]}
        url = f"{serving.management}/models/linear?min_worker=14"
        assert client.call("PUT", url, timeout_s=60).status == 200
        assert len(serving.of_model("linear")[1]) == 14


#: What examples are asked, with its content type, and their reply; each is in its README.
REPLIES = {
    "linear": (b"[[1,2]]", "application/json", b"[[4.9999918937683105]]"),
    "gluon_blocks": (
        b"5.1,3.5,1.4,0.2\n6.3,3.3,6.0,2.5\n",
        "text/csv",
        b'["setosa", "virginica"]',
    ),
    "transform": (b'["a great day", "a bad one"]', "application/json", b"[1.0, -1.0]"),
}


@pytest.mark.parametrize("fork", ["auto", "off"])
def test_examples_answer_the_same(ports, fork):
    """Whether their workers are forked or load them each."""
    paths, env = [EXAMPLES / name for name in REPLIES], {**os.environ, "MMS_HANDLER_FORK": fork}
    with Serving(ports, *paths, "--workers", "2", env=env) as serving:
        for name, (body, content_type, reply) in REPLIES.items():
            assert bool(fork_server(serving, name)) == (fork == "auto")
            answers = [serving.ask(name, body, content_type=content_type) for _ in range(8)]
            assert {answer.body for answer in answers} == {reply}


#: Scripts that cannot be loaded, and what is said about them.
FAILURES = {
    "raise ValueError('no weights')": "broken cannot be served: script: ValueError: no weights "
    "(code/inference.py, line 1)",
    "def model_fn(model_dir): raise MemoryError('too large')": "broken cannot be served: model_fn: "
    "MemoryError: too large (code/inference.py, line 1)",
    "import os; os._exit(7)": "broken cannot be served: Failed to start workers",
    "import time; time.sleep(60)": "broken did not load within 8 s (--timeout-s): it has been in "
    "script for ",
}


@pytest.mark.parametrize("fork", ["auto", "off"])
@pytest.mark.parametrize("script", FAILURES)
def test_a_load_that_fails(ports, tmp_path, script, fork):
    """The same is said about it, whether workers would have been forked or not."""
    (tmp_path / "broken" / "code").mkdir(parents=True)
    (tmp_path / "broken" / "code" / "inference.py").write_text(script + "\n")
    flags = ("--workers", "2", "--timeout-s", "8" if "sleep" in script else "60")
    env = {**os.environ, "MMS_HANDLER_FORK": fork}
    with Serving(ports, tmp_path / "broken", *flags, env=env, log=tmp_path / "log") as serving:
        assert serving.process.wait(90) == 1
    assert FAILURES[script] in (tmp_path / "log").read_text()
