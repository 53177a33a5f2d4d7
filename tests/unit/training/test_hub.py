"""training.hub: what a hub decides.  It runs with its watches in test_cluster."""

from __future__ import annotations

import socket

import pytest

from mms_handler.training import hub as hubs
from mms_handler.training.cluster import local_port
from mms_handler.training.messages import Connection

#: An address for many machines, to which there is no connection.
NOWHERE = "224.0.0.1"


@pytest.fixture
def clock(monkeypatch):
    """Stands still, unless a test moves it."""
    clock = {"s": 100.0}
    monkeypatch.setattr("time.monotonic", lambda: clock["s"])
    return clock


@pytest.fixture
def make_hub(clock):
    """Make a hub that does not run; hosts join within 60 s and are lost after 12 s."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield lambda *hosts, address="127.0.0.1": hubs.Hub(
            dict.fromkeys(hosts, address), listener, 60, 12
        )


@pytest.fixture
def hub(make_hub):
    return make_hub("a", "b")


@pytest.fixture
def join(clock):
    """Connect a host, or a stranger."""
    sockets = []

    def join(hub, hello=None):
        here, there = socket.socketpair()
        sockets.extend((here, there))
        there.setblocking(False)
        hub._connections.append(Connection(here))
        if hello:
            there.sendall(f"hello {hello}\n".encode())
            hub._serve(hub._connections[-1])
        return there

    yield join
    for each in sockets:
        each.close()


def received(there):
    """The messages that the hub has sent, without beats."""
    try:
        lines = there.recv(9_999).decode().splitlines()
    except BlockingIOError:
        return []
    return [line for line in lines if line != "beat "]


def serve(hub):
    for connection in list(hub._connections):
        hub._serve(connection)
    hub._check_end()


def test_the_oldest_stranger_goes(hub, join, monkeypatch):
    """When there are too many; a host that came before stays."""
    monkeypatch.setattr(hubs, "MAX_STRANGERS", 1)
    host = join(hub, "a token")
    strangers = []
    for _ in range(4):  # one, one for each host, and one more
        strangers.append(socket.create_connection(hub._listener.getsockname()))
        strangers[-1].settimeout(10)
        hub._accept()
    assert strangers[0].recv(1) == b""
    assert [bool(connection.host) for connection in hub._connections] == [True, *[False] * 3]
    assert received(host) == []
    for connection in [*hub._connections, *strangers]:
        getattr(connection, "socket", connection).close()


def test_all_have_finished(hub, join):
    """Each is told, once all have said so."""
    a, b = join(hub, "a"), join(hub, "b")
    a.sendall(b"finished\n")
    serve(hub)
    assert (received(a), received(b)) == ([], [])
    b.sendall(b"finished\n")
    serve(hub)
    assert (received(a), received(b)) == (["done "], ["done "])
    b.close()
    serve(hub)
    assert received(a) == []


def test_one_has_failed(hub, join):
    """The first reason counts; a host that joins later gets it too."""
    a = join(hub, "a")
    a.sendall(b"failed no data\nfailed other\n")
    serve(hub)
    assert received(a) == ["lost host a was lost: no data"]
    assert received(join(hub, "b")) == ["lost host a was lost: no data"]


def test_notes(hub, join):
    """Every host gets those of all hosts, also when it joins later; a stranger cannot leave any."""
    a = join(hub, "a")
    a.sendall(b"note 1 2\n")
    serve(hub)
    assert received(a) == ["note a 1 2"]
    b, stranger = join(hub, "b"), join(hub)
    assert received(b) == ["note a 1 2"]
    stranger.sendall(b"note x\n")
    b.sendall(b"note 3\n")
    serve(hub)
    assert (received(a), received(b)) == (["note b 3"], ["note b 3"])


def test_hosts_that_do_not_come(hub, join, clock):
    """All that are missing are named, when their time is over."""
    a = join(hub, "a")
    for _ in range(6):
        clock["s"] += 10
        a.sendall(b"beat\n")
        serve(hub)
    assert received(a) == []
    clock["s"] += 0.1
    hub._check_end()
    assert received(a) == ["lost host b was lost: it did not join within 60 s"]
    assert hub._end == ("lost", "host b was lost: it did not join within 60 s")


def test_no_host_comes(hub, clock):
    clock["s"] += 60.1
    hub._check_end()
    assert hub._end[1] == "hosts a, b were lost: they did not join within 60 s"


@pytest.mark.parametrize("hello", ["c", "a", "a other", "a "])
@pytest.mark.parametrize("first", ["a", "a token"])
def test_who_may_not_join(hub, join, first, hello):
    """A host of another job, and one that has joined; nobody else is lost for it."""
    a = join(hub, first)
    other = join(hub, hello)
    reason = "the job has no such host, or it has joined already"
    assert received(other) == [f"lost host {hello.split()[0]} was lost: {reason}"]
    serve(hub)
    assert other.recv(9) == b""
    assert (received(a), hub._end) == ([], None)


def test_a_stranger(hub, join):
    """Says something else first."""
    a, stranger = join(hub, "a"), join(hub)
    stranger.sendall(b"finished\n")
    serve(hub)
    assert stranger.recv(9) == b""
    assert (received(a), hub._end, hub._members["a"].finished) == ([], None, False)


def test_a_silent_stranger(hub, join, clock):
    """Is disconnected, and nobody is lost."""
    a, stranger = join(hub, "a"), join(hub)
    clock["s"] += 12.1
    a.sendall(b"beat\n")
    serve(hub)
    assert stranger.recv(9) == b""
    assert (received(a), hub._end) == ([], None)


def test_a_host_that_leaves(hub, join, clock):
    """It is lost if it does not come back within a tenth of the time of silence."""
    a, b = join(hub, "a token"), join(hub, "b")
    a.close()
    serve(hub)
    clock["s"] += 1.1
    serve(hub)
    assert received(b) == []
    clock["s"] += 0.3
    serve(hub)
    assert received(b) == ["lost host a was lost: its connection closed"]


def test_a_host_that_comes_back(hub, join, clock):
    """On a new connection, whether the old one was closed or is only silent; it hears the end."""
    a, b = join(hub, "a token"), join(hub, "b")
    a.close()
    serve(hub)
    again = join(hub, "a token")
    clock["s"] += 11
    b.sendall(b"beat\n")
    serve(hub)
    third = join(hub, "a token")
    clock["s"] += 11
    b.sendall(b"beat\n")
    serve(hub)
    assert (received(b), hub._end) == ([], None)
    assert again.recv(99) in (b"beat \n", b"beat \nbeat \n")
    assert again.recv(9) == b""  # the hub has closed the old connection
    b.sendall(b"failed no data\n")
    serve(hub)
    assert received(third) == ["lost host b was lost: no data"]
    assert received(join(hub, "a token")) == ["lost host b was lost: no data"]


@pytest.mark.parametrize(
    ("hosts", "address", "heard", "sentence"),
    [
        ("ab", "127.0.0.1", "a", "host b was lost: it was silent for 12 s"),
        ("ab", NOWHERE, "a", "hosts a and b could not reach each other for 12 s"),
        ("abc", NOWHERE, "ac", "host b was lost: it was silent for 12 s"),
        ("abc", NOWHERE, "a", "host a was lost: it was silent for 12 s"),
        ("abc", "127.0.0.1", "a", "host b was lost: it was silent for 12 s"),
    ],
)
def test_a_silent_host(make_hub, join, clock, hosts, address, heard, sentence):
    """The sentence is one that the silent host gives as well; the hub's host may be cut off."""
    hub = make_hub(*hosts, address=address)
    joined = {host: join(hub, host) for host in hosts}
    for _ in range(3):
        clock["s"] += 4
        for host in heard:
            joined[host].sendall(b"beat\n")
        serve(hub)
    assert hub._end is None
    clock["s"] += 0.1
    serve(hub)
    assert hub._end == ("lost", sentence)
    assert all(received(joined[host]) == [f"lost {sentence}"] for host in heard)


def test_a_host_that_could_not_wait_longer(hub, join):
    """A hub that stood still gives the reason of the others."""
    a = join(hub, "a")
    join(hub, "b token").sendall(b"lost host a was lost: it was silent for 12 s\n")
    serve(hub)
    assert received(a) == ["lost host a was lost: it was silent for 12 s"]


def test_how_long_the_hub_stays(make_hub, join, clock):
    """Until each host knows the end, or is lost itself; for those that never came, 10 s."""
    hub = make_hub("a", "b", "c", "d")
    a, b = join(hub, "a"), join(hub, "b")
    c = join(hub, "c")
    a.sendall(b"failed no data\n")
    serve(hub)
    assert not hub._is_over()
    hub.closing_at = clock["s"]
    for there in (a, b):
        there.sendall(b"ended\n")
    serve(hub)
    c.close()
    serve(hub)
    clock["s"] += 9.9
    assert not hub._is_over()  # d may still come
    clock["s"] += 0.2
    assert hub._is_over()


def test_the_hub_stays_for_a_silent_host(hub, join, clock):
    """It comes back, or is lost; then everybody gives the same reason."""
    a, b = join(hub, "a"), join(hub, "b token")
    a.sendall(b"failed no data\nended\n")
    serve(hub)
    hub.closing_at = clock["s"]
    clock["s"] += 11
    assert not hub._is_over()
    again = join(hub, "b token")
    assert received(again) == ["lost host a was lost: no data"]
    again.sendall(b"ended\n")
    serve(hub)
    assert hub._is_over()
    assert received(b) == ["lost host a was lost: no data"]


def test_a_hub_that_ends_first(hub, join, clock):
    """Its host failed before it could say so itself."""
    b = join(hub, "b")
    hub.closing_at = clock["s"]
    assert not hub._is_over()
    assert received(b) == ["lost host a was lost: it ended"]


@pytest.mark.parametrize(("late_s", "says"), [(0, False), (2, True)])
def test_the_log_says_that_it_waits(monkeypatch, caplog, late_s, says):
    """For a host that has not joined, so that nobody wonders after Ctrl-C."""
    monkeypatch.setattr(hubs, "LATE_S", late_s)
    caplog.set_level("INFO")
    with hubs.hub(dict.fromkeys("ab", "127.0.0.1"), local_port(), 60, 30):
        pass
    assert ("waiting until all hosts know" in caplog.text) == says
