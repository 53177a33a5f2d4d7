"""One real MMS for the whole session, with its own command and our config.properties."""

from __future__ import annotations

from pathlib import Path
from typing import Iterator

import pytest
from running_mms import EXAMPLES, ROOT, Front, end, free_ports, start_mms, wait_for

from mms_handler import archive, client


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark everything in this folder: it needs Java."""
    here = str(Path(__file__).parent)
    for item in items:
        if str(item.path).startswith(here):
            item.add_marker(pytest.mark.e2e)


@pytest.fixture
def ports() -> tuple[int, int]:
    """Two free loopback ports."""
    return free_ports()


@pytest.fixture(scope="session")
def session_ports() -> tuple[int, int]:
    """The ports of ``front``."""
    return free_ports()


@pytest.fixture(scope="session")
def front(tmp_path_factory, session_ports) -> Iterator[Front]:
    """``multi-model-server`` with the linear example; tests may add models."""
    folder = tmp_path_factory.mktemp("mms")
    store = folder / "store"
    archive.pack(EXAMPLES / "linear", store / "linear.mar")
    process = start_mms("multi-model-server", folder, session_ports)
    inference, management = (f"http://127.0.0.1:{port}" for port in session_ports)
    try:
        wait_for(lambda: client.listening(inference), 30)
        front = Front(inference, management, store, folder / "log")
        assert front.add("linear").status == 200
        yield front
    finally:
        end(process)


@pytest.fixture(scope="session")
def mnist(front) -> str:
    """The MNIST Module, in ``front``."""
    archive.pack(ROOT / "tests" / "data" / "mnist", front.store / "mnist.mar")
    assert front.add("mnist").status == 200
    return "mnist"
