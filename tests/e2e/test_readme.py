"""The blocks of the README, of CONTRIBUTING.md and of docs/ do what they say."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from running_mms import ROOT, free_ports, wait_for

from mms_handler import client, server

README = ROOT / "README.md"
PAGES = [
    path
    for path in [README, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
    if "```console" in path.read_text()
]


#: Commands that take too long for a test, each with an argument with which it does little.
LONG = {
    **dict.fromkeys(
        (
            "make bench",
            "make quick",
            "make chaos",
            "make soak",
            "make mutate",
            "make test-hosts",
            "make test-sdks",
        ),
        "--dry-run",
    ),
    "mms-handler tune model_archives/linear.mar --seconds 0.5 --warmup-s 0.2 --plot tune.svg": (
        "--max-trials 1"
    ),
    "python -m benchmarks.bodies": "'JSON: one integer'",
    ".venv/bin/pytest -q tests/unit/test_orders.py": "--collect-only",
}


def page_name(page: Path) -> str:
    """``tutorial``; of a page in a folder ``migration/torchserve``."""
    return str(page.relative_to(ROOT).with_suffix("")).replace("docs/", "", 1)


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.DOTALL)


def commands(page: Path) -> list[tuple[str, str]]:
    """Each command of the console blocks, and what is shown of its output."""
    shown: list[tuple[str, str]] = []
    for line in "".join(blocks(page, "console")).splitlines():
        if line.startswith("$ "):
            shown.append((line[2:], ""))
        else:
            command, output = shown[-1]
            shown[-1] = (command, f"{output}{line}\n")
    return shown


def test_python_blocks_are_the_files_they_name():
    """A block that starts with a path is that file, whole."""
    for block in blocks(README, "python"):
        name, _, source = block.partition("\n")
        assert (ROOT / name.strip("# ")).read_text() == source


@pytest.fixture
def here(tmp_path):
    """A folder like a clone, with this environment as its .venv and ports of its own."""
    port, management = free_ports()
    (ROOT / "build").mkdir(exist_ok=True)  # where the demo works
    for name in (
        *("build", "model_archives", "Makefile", "setup.py", "pyproject.toml"),
        *("requirements", "deploy", "tests", "docs", "benchmarks"),
    ):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / ".venv").symlink_to(sys.prefix)
    for stamp in ("demo", "demo,java"):  # what the extra ``test`` brings is more than ``demo``
        (tmp_path / ".venv" / stamp).touch()
    config = (ROOT / "config.properties").read_text()
    config = config.replace(":8080", f":{port}").replace(":8081", f":{management}")
    (tmp_path / "config.properties").write_text(config)
    ports = {
        "SAGEMAKER_BIND_TO_PORT": str(port),
        "MMS_HANDLER_MANAGEMENT_PORT": str(management),
    }
    path = f"{tmp_path / '.venv' / 'bin'}:{os.environ['PATH']}"
    with tempfile.TemporaryDirectory() as short:  # sockets' names are
        env = {**os.environ, **ports, "TEMP": short, "TMPDIR": short, "PATH": path}
        env.pop("MAKEFLAGS", None)  # make test-all has another environment than .venv
        yield tmp_path, {**env, **server.java_variables(env)}, port


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_every_command_does_what_is_shown(here, page):
    """In their order, each with the output that the page shows."""
    folder, env, port = here
    url = f"http://127.0.0.1:{port}"

    def run(command: str) -> str:
        done = subprocess.run(
            ["bash", "-c", command], cwd=folder, env=env, stdout=subprocess.PIPE, timeout=120
        )
        assert done.returncode == 0, command
        return done.stdout.decode()

    with contextlib.ExitStack() as stack:
        for command, shown in commands(page):
            shown = shown.replace(":8080", f":{port}")
            if command.startswith("cd "):
                folder = folder / command[3:]
            elif command in ("make test", "make lint"):  # this is one, CI runs the other
                assert command in (ROOT / ".ci" / "run").read_text().splitlines()
            elif command in LONG:  # minutes, an hour, or these tests again: see that it starts
                run(f"{command} {LONG[command]}")
            elif command == "make demo":
                names = set(os.listdir(folder))
                run(command)
                assert set(os.listdir(folder)) == names  # all it writes is in build/ and ignored
            elif " serve " in command:
                stack.close()  # another server has its ports
                serving = subprocess.Popen(
                    ["bash", "-c", f"exec {command}"],
                    cwd=folder,
                    env=env,
                    stdout=subprocess.PIPE,
                    text=True,
                )
                stack.enter_context(serving)
                stack.callback(serving.terminate)
                for line in shown.splitlines(keepends=True):
                    assert serving.stdout.readline() == line
            elif "--start" in command:
                stack.close()  # its ports are the ones of ``serve``
                run(f"{command} >mms.log 2>&1")
                wait_for(lambda: client.listening(url), 30)
                answer = client.invoke(f"{url}/predictions/linear", b"[[1,2]]")
                assert answer.body == b"[[4.9999918937683105]]"
            else:
                output = run(command.replace(":8080", f":{port}"))
                assert output.rstrip("\n") == (shown or output).rstrip("\n")
