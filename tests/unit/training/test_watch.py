"""training.watch with a real hub, through a relay that a test can break."""

from __future__ import annotations

import contextlib
import logging
import socket
import subprocess
import sys
import threading
import time

import pytest

from mms_handler.training import cluster, hub
from mms_handler.training.watch import Watch

NOWHERE = "224.0.0.1"  # an address for many machines, to which there is no connection
HOSTS = dict.fromkeys("ab", "127.0.0.1")
LOST_S = 6


class Relay:
    """A port that passes bytes on to another one, in both directions, unless it is held."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.connections = 0
        self.flowing = threading.Event()
        self.flowing.set()
        self._sockets: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                accepted, _ = self._listener.accept()
                onward = socket.create_connection(("127.0.0.1", self._target))
                self.connections += 1
                self._sockets += [accepted, onward]
                for pair in ((accepted, onward), (onward, accepted)):
                    threading.Thread(target=self._pass_on, args=pair, daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(4096):
                self.flowing.wait()
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)

    def cut(self) -> None:
        """Close all connections; new ones can be made."""
        while self._sockets:
            cut = self._sockets.pop()
            with contextlib.suppress(OSError):
                cut.shutdown(socket.SHUT_RDWR)
            cut.close()

    def close(self) -> None:
        self._listener.close()
        self.flowing.set()
        self.cut()


@pytest.fixture
def port():
    return cluster.local_port()


@pytest.fixture
def relay(port):
    with hub.hub(HOSTS, port, 60, LOST_S):
        relay = Relay(port)
        yield relay
        relay.close()


@pytest.fixture
def a(relay, port):
    """The watch of the hub's own host."""
    return Watch("a", HOSTS, port, 60, LOST_S)


@pytest.fixture
def b(a, relay):
    """A watch behind the relay, which has joined."""
    watch = Watch("b", HOSTS, relay.port, 60, LOST_S)
    until(lambda: watch._heard_at)
    return watch


def until(condition, limit_s=30):
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_process_may_end_without_leaving(port):
    """The watch does not keep it."""
    program = (
        "import sys\n"
        "from mms_handler.training.watch import Watch\n"
        "Watch('b', {'a': '127.0.0.1', 'b': '127.0.0.1'}, int(sys.argv[1]), 600, 600)\n"
    )
    subprocess.run([sys.executable, "-c", program, str(port)], check=True, timeout=60)


def test_a_job_without_trouble(relay, a, b, caplog):
    """Nothing is said about connections."""
    caplog.set_level(logging.WARNING)
    for watch in (a, b):
        watch.send("finished")
    for watch in (a, b):
        assert watch.done.wait(30)
        watch.leave()
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("line", "is_end"),
    [(b"note a x\n", False), (b"done\n", True), (b"lost host a was lost\n", True)],
)
def test_the_hub_hears_that_a_host_knows_the_end(line, is_end):
    """It stays for hosts that have not heard it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        watch = Watch("b", HOSTS, listener.getsockname()[1], 60, LOST_S)
        with listener.accept()[0] as connection:
            connection.sendall(line)
            until(lambda: watch.notes or watch.lost or watch.done.is_set())
            watch.leave()
            received = b"".join(iter(lambda: connection.recv(4096), b""))
    assert (b"\nended" in received) is is_end


def test_a_connection_that_is_cut(relay, a, b):
    """It is made again at once, and what was said before counts, and what is said then."""
    b.send("finished")
    relay.cut()
    until(lambda: relay.connections >= 2)
    a.send("finished")
    for watch in (a, b):
        assert watch.done.wait(30)
        watch.leave()
    assert (a.lost, b.lost) == (None, None)


def test_a_connection_that_is_silent(relay, a, b, caplog):
    """Another one is tried before the host is lost; the log says so once, and that it is back."""
    caplog.set_level(logging.WARNING)
    relay.flowing.clear()
    until(lambda: relay.connections >= 2)
    b.send("finished")
    a.send("finished")
    relay.flowing.set()
    for watch in (a, b):
        assert watch.done.wait(30)
        watch.leave()
    assert (a.lost, b.lost) == (None, None)
    lines = [record.getMessage() for record in caplog.records if record.name.endswith("watch")]
    assert lines[0] == "b: no connection to host a; trying again for 6 s"
    assert lines[1].startswith("b: host a is back after ")
    assert len(lines) == 2


def test_a_failure_while_there_is_no_connection(relay, a, b):
    """The host stays until the hub knows the reason, which all give then."""
    relay.flowing.clear()
    leaving = threading.Thread(target=b.leave, args=("no data",))
    leaving.start()
    until(lambda: relay.connections >= 2)
    relay.flowing.set()
    leaving.join()
    until(lambda: a.lost)
    assert (a.lost, b.lost) == ("host b was lost: no data",) * 2
    a.leave()


def test_an_end_while_there_is_no_connection(relay, a, b):
    """The hub stays until the host is back and has heard it."""
    relay.flowing.clear()
    a.leave("no data")
    until(lambda: relay.connections >= 2)
    assert b.lost is None
    relay.flowing.set()
    until(lambda: b.lost)
    assert b.lost == "host a was lost: no data"


@pytest.mark.parametrize(
    ("hosts", "hub_address", "other_address", "sentence"),
    [
        ("ab", "127.0.0.1", "", "host a was lost: it was silent for 1 s"),
        ("ab", "refused", "", "host b was lost: it was silent for 1 s"),
        ("ab", NOWHERE, "", "hosts a and b could not reach each other for 1 s"),
        ("abc", NOWHERE, "127.0.0.1", "host a was lost: it was silent for 1 s"),
        ("abc", NOWHERE, NOWHERE, "host b was lost: it was silent for 1 s"),
    ],
)
def test_a_hub_that_is_silent(hosts, hub_address, other_address, sentence):
    """Who is lost depends on whom this host still reaches."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        addresses = {**dict.fromkeys(hosts, other_address), "a": "127.0.0.1"}
        watch = Watch("b", addresses, port, 60, 1)
        with listener.accept()[0] as connection:
            connection.sendall(b"beat\n")
            until(lambda: watch._heard_at)
            if hub_address == "refused":
                listener.close()
            elif hub_address != "127.0.0.1":
                watch._hub = (hub_address, port)
            until(lambda: watch.lost)
            assert watch.lost == sentence


def test_a_hub_that_stood_still_is_told(port):
    """It gives the same reason as those that could not wait longer."""
    listener = socket.create_server(("127.0.0.1", port))
    watch = Watch("b", HOSTS, port, 60, 1)
    first, _ = listener.accept()
    first.sendall(b"beat\n")
    until(lambda: watch.lost)
    first.close()
    running = hub.Hub(HOSTS, listener, 60, 1)
    with listener:
        thread = threading.Thread(target=running.run)
        thread.start()
        until(lambda: running._end)
        running.closing_at = time.monotonic() - hub.LATE_S
        thread.join()
    assert running._end == ("lost", watch.lost)
    assert watch.lost == "host a was lost: it was silent for 1 s"
