"""No order of events loses a request, or answers one twice: tried with the plug-in's own classes.

``tests/orders`` has the events and the scheduler, in Java.  The table is in ``faults.py``.
"""

from __future__ import annotations

import os
import subprocess
import zipfile
from pathlib import Path

import pytest

from mms_handler.server import java_variables
from tests.orders import build
from tests.orders.faults import FAULTS, Fault

LOG_CONFIG = build.ROOT / "mms_handler" / "log4j2.xml"


@pytest.fixture(scope="session")
def classes(tmp_path_factory) -> Path:
    """What is in the jar."""
    folder = tmp_path_factory.mktemp("orders")
    with zipfile.ZipFile(build.JAR) as jar:
        jar.extractall(folder)
    return folder


def orders(*folders: Path, events: str, seed: int, count: int | None = None) -> tuple[int, str]:
    """Try ``count`` orders, or all that happens in one: the exit code, and what was printed."""
    env = {**os.environ, **java_variables(os.environ)}
    java = Path(env["JAVA_HOME"], "bin", "java") if env.get("JAVA_HOME") else "java"
    options = {"mms_handler.expected_models": 0}
    options["log4j.configurationFile"] = LOG_CONFIG.as_uri()
    words = [
        *(f"-D{name}={value}" for name, value in options.items()),
        *("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"),
        *("-cp", ":".join(map(str, (*folders, *build.CLASSPATH)))),
        *("mms_handler.Orders", events, seed, *([] if count is None else [count])),
    ]
    process = subprocess.run(
        [str(java), *map(str, words)], env=env, stdout=subprocess.PIPE, timeout=120
    )
    lines = process.stdout.decode().splitlines()
    # Without what is logged.
    return process.returncode, "\n".join(
        line for line in lines if not line.startswith(("WARNING", "{"))
    )


def test_the_jar_is_of_these_sources():
    """After a change of a source, `make plugin` must build it again."""
    with zipfile.ZipFile(build.JAR) as jar:
        assert jar.read("sources").decode() == build.sources_hash()


@pytest.mark.parametrize(
    ("events", "count"), [("lane", 5_000), ("connection", 8_000), ("clients", 3_000)]
)
def test_no_order_is_wrong(classes, events, count):
    """Each request has one answer, in order on its connection, and the counts return to zero.

    Each client gets what its bucket of tokens has, and very many do not make their table larger.
    """
    code, text = orders(classes / "orders", events=events, seed=1, count=count)
    assert (code, text.partition(",")[0]) == (0, f"{count} orders"), text


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_is_found(classes, fault: Fault):
    """With the seed that the table has."""
    folders = classes / build.folder_of(fault), classes / "orders"
    code, text = orders(*folders, events=fault.events, seed=fault.seed)
    assert code == 1, text
    assert text.partition("\n")[0] == f"seed {fault.seed}: {fault.words}"


def test_an_order_can_be_repeated(classes):
    """The same seed gives the same steps."""
    texts = [orders(classes / "orders", events="lane", seed=7)[1] for _ in range(2)]
    first, again = (text.rpartition("\n1 orders")[0] for text in texts)
    assert first.count("\n") > 10
    assert first == again
