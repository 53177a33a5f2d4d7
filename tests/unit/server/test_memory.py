"""memory: what is free, and what is reserved."""

from __future__ import annotations

import pytest
from local_mms import MB

from mms_handler.errors import OutOfResources
from mms_handler.server import machine, model_processes
from mms_handler.server.memory import Memory


class Process:
    def __init__(self, pid: int) -> None:
        self.pid = pid


@pytest.fixture
def memory(monkeypatch):
    """Build the memory of a machine with 1,000 MB free; Java and two more processes use 300."""
    java = Process(7)
    others = [Process(8), Process(9)]
    used = {(7, 8, 9): 300 * MB}
    monkeypatch.setattr(machine, "available_bytes", lambda: 1_000 * MB)
    monkeypatch.setattr(model_processes, "of_all_models", lambda pid: others if pid == 7 else [])
    monkeypatch.setattr(
        machine, "used_bytes", lambda processes: used[tuple(each.pid for each in processes)]
    )
    monkeypatch.setattr(model_processes, "forked", lambda processes: [])
    return lambda limit_mb: Memory(java, limit_mb * MB if limit_mb else None)


@pytest.mark.parametrize(
    ("limit_mb", "free_mb"), [(None, 1_000), (500, 200), (200, -100), (2_000, 1_000)]
)
def test_what_is_free(memory, limit_mb, free_mb):
    """The lower of the machine's and what the server may still take."""
    assert memory(limit_mb).free_bytes() == free_mb * MB


def test_what_forked_workers_will_need_is_not_free(memory, monkeypatch):
    """They use hardly any memory until they answer; then each has at least 32 MB of its own."""
    own = {8: 2 * MB, 9: 50 * MB}
    monkeypatch.setattr(model_processes, "forked", lambda processes: processes)
    monkeypatch.setattr(machine, "private_bytes", lambda process: own[process.pid])
    assert memory(None).free_bytes() == (1_000 - 30) * MB
    assert memory(500).free_bytes() == (200 - 30) * MB


def test_reserved_memory_is_not_free(memory):
    """Until the block ends, however it ends; all that is free can be taken."""
    memory = memory(500)
    with memory.reserved("one", 150 * MB):
        message = "^two needs about 51 MB, but only 50 MB are free; unregister another model first$"
        with pytest.raises(OutOfResources, match=message), memory.reserved("two", 51 * MB):
            pass
        with memory.reserved("two", 50 * MB):
            pass
        with pytest.raises(KeyError, match="two"), memory.reserved("two", 50 * MB):
            raise KeyError("two")
        with memory.reserved("two", 50 * MB):
            pass
    with memory.reserved("three", 200 * MB):
        pass


def test_less_than_nothing_is_free(memory):
    """The server takes more than it may; a message says 0."""
    with pytest.raises(OutOfResources, match="but only 0 MB are free"), memory(200).reserved(
        "x", 1
    ):
        pass
