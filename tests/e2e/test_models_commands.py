"""The commands models against a running server that needs a token, and while a load lasts."""

from __future__ import annotations

import json
import os
import pty
import select
import shutil
import subprocess
from pathlib import Path
from typing import Callable, Iterator

import pytest
from running_mms import BIN, EXAMPLES, Serving, free_ports, mms_handler

TOKEN = "0123456789abcdef0123456789abcdef"
RIGHT = b"[[4.9999918937683105]]"

#: Loads when the file GO is there.
SLOW = """\
import time
from pathlib import Path

def model_fn(model_dir):
    while not Path({go!r}).exists():
        time.sleep(0.05)

def transform_fn(model, data, content_type, accept):
    return "slow", "text/plain"
"""


class Commands:
    """``mms-handler models`` for one server."""

    def __init__(self, serving: Serving, env: dict[str, str], store: Path) -> None:
        self.serving, self.env, self.store = serving, env, store

    def run(self, *words: object) -> str:
        done = mms_handler("models", *words, env=self.env)
        assert done.returncode == 0, done.stderr
        return done.stdout.decode()

    def json(self, *words: object) -> object:
        return json.loads(self.run(*words, "--json"))

    def fail(self, *words: object) -> str:
        done = mms_handler("models", *words, env=self.env)
        assert (done.returncode, done.stdout) == (1, b"")
        return done.stderr.decode().splitlines()[-1]  # on a slow machine progress is before it

    def served(self, name: str) -> tuple[bytes, str]:
        answer = self.serving.ask(name)
        return answer.body, answer.headers["x-model-version"]


@pytest.fixture(scope="module")
def commands(tmp_path_factory) -> Iterator[Commands]:
    folder = tmp_path_factory.mktemp("commands")
    store = folder / "store"
    for name in ("linear", "next"):
        shutil.copytree(EXAMPLES / "linear", store / name)
    (folder / "slow").mkdir()
    (store / "slow" / "code").mkdir(parents=True)
    (store / "slow" / "code" / "inference.py").write_text(SLOW.format(go=str(folder / "go")))
    (folder / "tokens").write_text(f"management {TOKEN}\n")
    ports = free_ports()
    words = (store / "linear", "--workers", "1", "--model-store", store)
    env = {
        **os.environ,
        "MMS_HANDLER_TOKEN_FILE": str(folder / "tokens"),
        "MMS_HANDLER_MANAGEMENT_PORT": str(ports[1]),
        "COLUMNS": "80",
    }
    with Serving(ports, *words, env=env, log=folder / "log") as serving:
        yield Commands(serving, env, store)


def test_a_model_is_swapped_and_rolled_back(commands):
    """With a share first; each version can be reached, and one that is not needed is unloaded."""
    run, store = commands.run, commands.store
    assert run("load", store / "linear", "--name", "m") == ("m: version 1 is served by 1 worker\n")
    assert commands.served("m") == (RIGHT, "1")
    assert run("swap", "m", store / "next", "--share", "10") == (
        "m: version 1 is served by 1 worker, with 90 % of the requests; "
        "version 2 gets 10 % of the requests\n"
    )
    assert commands.served("m/2") == (RIGHT, "2")
    assert run("swap", "m", "--version", "2") == (
        "m: version 2 is served by 1 worker; version 1 is kept\n"
    )
    assert commands.served("m") == (RIGHT, "2")
    assert run("rollback", "m") == "m: version 1 is served by 1 worker; version 2 is kept\n"
    assert commands.served("m") == (RIGHT, "1")
    assert run("scale", "m/2", "2") == "m: version 1 is served by 1 worker; version 2 is kept\n"
    described = commands.json("describe", "m/2")
    assert [worker["status"] for worker in described["workers"]] == ["READY", "READY"]
    assert run("unload", "m/2") == "version 2 of m is unloaded\n"
    assert commands.serving.ask("m/2").status == 404
    assert run("unload", "m") == "m is unloaded\n"
    assert commands.serving.ask("m").status == 404


def test_tables(commands):
    """They fit into 80 columns."""
    listed = commands.run("list").splitlines()
    assert listed[0].split() == ["MODEL", "VERSION", "FROM"]
    assert listed[1].split() == ["linear", "1", str(commands.store / "linear")]
    text = commands.run("describe", "linear")
    head, versions, workers = text.split("\n\n")
    assert head.splitlines()[0] == "model    linear, version 1"
    assert head.splitlines()[2] == "loaded   at the server's start"
    assert versions.splitlines()[1].split()[:4] == ["1", "served", "100", "%"]
    number, unit = workers.splitlines()[1].split()[2:4]
    assert unit == "MB"
    assert int(number) > 20  # of its own and its share of what workers share


def test_refusals(commands, tmp_path):
    assert commands.fail("list", "--token-file", other_token(tmp_path)) == (
        "error: send the header Authorization: Bearer TOKEN, with the token for management of the "
        "server's token file; name the server's token file with --token-file"
    )
    assert commands.fail("describe", "gone") == (
        "error: Model not found: gone; mms-handler models list names the models"
    )
    assert commands.fail("load", "linear") == (
        "error: Model linear is already registered; mms-handler models swap NAME PATH serves "
        "another version"
    )
    assert commands.fail("load", tmp_path) == (
        f"error: Model not found in model store: {tmp_path}; a server takes models from its "
        "--model-store, and from addresses of its --allowed-urls"
    )


def other_token(folder: Path) -> Path:
    (folder / "other").write_text(f"management {TOKEN[::-1]}\n")
    return folder / "other"


def test_a_load_that_lasts(commands):
    """Its phase and its seconds are in a live line, which is gone when it is loaded."""
    go = commands.store.parent / "go"
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [str(BIN / "mms-handler"), "models", "load", "slow"],
        env=commands.env,
        stdout=subprocess.PIPE,
        stderr=slave,
        text=True,
    )
    os.close(slave)
    try:
        seen = read_until(master, lambda text: ": model_fn for " in text)
        assert "slow is loading, " in seen
        described = commands.run("describe", "slow")
        assert "loading  model_fn for " in described
    finally:
        go.touch()
        stdout, _ = process.communicate(timeout=60)
        os.close(master)
    assert (process.returncode, stdout) == (0, "slow: version 1 is served by 1 worker\n")
    commands.run("unload", "slow")


def read_until(terminal: int, found: Callable[[str], bool], within_s: float = 60) -> str:
    """What came from a terminal until it had what is awaited."""
    text = ""
    while not found(text):
        assert select.select([terminal], [], [], within_s)[0], text
        text += os.read(terminal, 4096).decode()
    return text
