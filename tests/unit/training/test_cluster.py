"""training.cluster, the hub and the watches, with stand-ins for the helper processes."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import pytest

from mms_handler.errors import TrainingError
from mms_handler.training import cluster, hub, messages
from mms_handler.training.phases import Stopped
from mms_handler.training.watch import Watch

HOSTS = ("algo-1", "algo-2")


# --- addresses -------------------------------------------------------------------------------


def resolver(table, failures=0):
    """Resolve names by a table, each only after some failures; ``calls`` are the names."""
    calls = []

    def resolve(host):
        calls.append(host)
        if host not in table or calls.count(host) <= failures:
            raise socket.gaierror(-2, "Name or service not known")
        return table[host]

    resolve.calls = calls
    return resolve


def test_addresses_scheduler_first():
    """Every host has its address, sorted by the hosts' names."""
    resolve = resolver({"algo-10": "10.0.0.3", "algo-2": "10.0.0.2", "algo-1": "10.0.0.1"})
    addresses = cluster.addresses(["algo-2", "algo-10", "algo-1"], resolve)
    assert list(addresses.items()) == [
        ("algo-1", "10.0.0.1"),
        ("algo-10", "10.0.0.3"),
        ("algo-2", "10.0.0.2"),
    ]
    assert resolve.calls[0] == "algo-1"


def test_addresses_come_late():
    """Only a name that is not known yet is resolved again."""
    resolve = resolver({"a": "10.0.0.1", "b": "10.0.0.2"}, failures=2)
    assert cluster.addresses(["a", "b"], resolve, limit_s=5) == {"a": "10.0.0.1", "b": "10.0.0.2"}
    assert sorted(resolve.calls) == ["a"] * 3 + ["b"] * 3


def test_addresses_may_come_late_by_default():
    """Containers of one job start minutes apart."""
    assert cluster.addresses(["a"], resolver({"a": "10.0.0.1"}, failures=1)) == {"a": "10.0.0.1"}


def test_addresses_never_come():
    """The error names all hosts without an address, and comes at the limit."""
    started, resolve = time.monotonic(), resolver({"algo-1": "1.2.3.4"})
    with pytest.raises(TrainingError, match=r"no address within 0\.3 s for algo-2, algo-3"):
        cluster.addresses(["algo-3", "algo-1", "algo-2"], resolve, 0.3)
    assert resolve.calls.count("algo-2") <= 4
    assert 0.3 <= time.monotonic() - started < 1


def test_the_last_pause_ends_at_the_limit(monkeypatch):
    """However long the next one would be."""
    now, naps = itertools.count(0, 0.001), []

    def sleep(seconds):
        naps.append(seconds)
        for _ in range(int(seconds * 1_000)):
            next(now)

    clock = SimpleNamespace(monotonic=lambda: next(now), sleep=sleep)
    monkeypatch.setattr(cluster, "time", clock)
    with pytest.raises(TrainingError):
        cluster.addresses(["a"], resolver({}), 0.5)
    assert naps[:2] == [0.1, 0.2]
    assert 0.4 < sum(naps) <= 0.5


def test_an_impossible_name():
    """A name for which the real resolver raises UnicodeError has no address."""
    with pytest.raises(TrainingError, match="no address"):
        cluster.addresses(["a" * 70 + ".example"], limit_s=0)


def test_own_name_on_loopback():
    """A loopback address among others is an error; a cluster of loopback addresses is a trial."""
    table = {"a": "127.0.1.1", "b": "10.0.0.2"}
    with pytest.raises(TrainingError, match=r"a is 127\.0\.1\.1 on this host"):
        cluster.addresses(["a", "b"], resolver(table))
    assert cluster.addresses(["a"], resolver(table)) == {"a": "127.0.1.1"}


def test_pauses_double_up_to_thirty_seconds():
    pauses = list(itertools.islice(cluster.pauses(), 11))
    assert pauses[:4] == [0.1, 0.2, 0.4, 0.8]
    assert pauses[-2:] == [30, 30]


# --- what ps-lite reads ----------------------------------------------------------------------


def test_variables_are_strings():
    """Popen takes nothing else; the original crashed on a number."""
    assert cluster.variables(2, "10.0.0.1", 8000, "10.0.0.2", 1) == {
        "DMLC_NUM_WORKER": "2",
        "DMLC_NUM_SERVER": "2",
        "DMLC_PS_ROOT_URI": "10.0.0.1",
        "DMLC_PS_ROOT_PORT": "8000",
        "DMLC_NODE_HOST": "10.0.0.2",
        "PS_VERBOSE": "1",
    }


# --- who is alive ----------------------------------------------------------------------------


@pytest.fixture
def port():
    return cluster.local_port()


@pytest.fixture
def helpers(monkeypatch):
    """Stand-ins for scheduler and server; yields their environments and processes."""
    started = []

    @contextlib.contextmanager
    def helper(env):
        code = env.get(f"{env['DMLC_ROLE']}_CODE")
        sleep = f"import sys; sys.exit({code})" if code else "import sys; sys.stdin.read()"
        process = subprocess.Popen([sys.executable, "-c", sleep], stdin=subprocess.PIPE)
        started.append((env, process))
        try:
            yield process
        finally:
            process.kill()
            process.wait()
            process.stdin.close()

    monkeypatch.setattr(cluster, "_helper", helper)
    monkeypatch.setattr(cluster, "HELPERS_S", 0.2)
    monkeypatch.setattr(hub, "LATE_S", 0.2)
    return started


def joined(host, port, hosts=HOSTS, env=(), **limits):
    limits = {"join_s": 10, "lost_s": 10, **limits}
    addresses = dict.fromkeys(hosts, "127.0.0.1")
    return cluster.joined(hosts, host, addresses=addresses, env=dict(env), port=port, **limits)


class Leave(Exception):
    pass


@contextlib.contextmanager
def part(host, port, hosts=HOSTS, env=(), **limits):
    """Join, and leave with an exception instead of waiting for the other hosts.

    A test's own assertion is kept: on the way out another exception may take its place.
    """
    failed = None
    with contextlib.suppress(Leave, cluster.EndedBefore), joined(
        host, port, hosts, env, **limits
    ) as member:
        try:
            yield member
        except AssertionError as exc:
            failed = exc
        raise Leave
    if failed:
        raise failed


def whole(host, port, **limits):
    """Join as a host whose worker ends well at once."""
    with joined(host, port, **limits):
        pass


def lost_within(member, limit_s):
    deadline = time.monotonic() + limit_s
    while not member.lost():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return member.lost()


def test_roles_and_variables(helpers, port):
    """The first host has the scheduler, all have a server; the worker's role is worker."""
    with part("algo-1", port, env={"A": "B"}) as first, part("algo-2", port) as second:
        assert [env["DMLC_ROLE"] for env, _ in helpers] == ["scheduler", "server", "server"]
        assert helpers[0][0]["A"] == "B"
        for member in (first, second):
            assert member.variables["DMLC_ROLE"] == "worker"
            assert member.variables["DMLC_PS_ROOT_PORT"] == str(port)
            assert member.variables["PS_VERBOSE"] == "0"
    assert [process.returncode for _, process in helpers] == [-9, -9, -9]


def test_without_a_parameter_server(helpers, port):
    """There are no helpers and no variables, but the hosts know of each other."""
    with part("algo-1", port, parameter_server=False) as first:
        with part("algo-2", port, parameter_server=False) as second:
            assert (helpers, first.variables, second.variables) == ([], {}, {})
            assert first.addresses == {"algo-1": "127.0.0.1", "algo-2": "127.0.0.1"}
            second.note("a b")
            assert first.read_note("algo-2") == second.read_note("algo-2") == "a b"
        with pytest.raises(TrainingError, match="^host algo-2 was lost: "):
            first.read_note("algo-1")


def test_what_is_left_of_a_job(port, monkeypatch):
    """Nothing: the hub has heard that each host knows the end, however slow the network is."""
    watches, send = {}, messages.Connection.send

    class Recorded(Watch):
        def __init__(self, host, *arguments):
            watches[host] = self
            super().__init__(host, *arguments)

    def slow(connection, word, text=""):
        time.sleep(0.2 * (word == "ended"))
        send(connection, word, text)

    def be(host):
        whole(host, port, parameter_server=False)
        left.append(watches[host]._thread.is_alive())

    left = []
    monkeypatch.setattr(cluster, "Watch", Recorded)
    monkeypatch.setattr(messages.Connection, "send", slow)
    second = threading.Thread(target=be, args=("algo-2",))
    second.start()
    be("algo-1")
    second.join()
    assert left == [False, False]


def test_all_finish(helpers, port):
    """A host that finishes first waits for the last one; unused helpers are ended."""
    order = []

    def second():
        with joined("algo-2", port) as member:
            time.sleep(0.5)
            order.append("algo-2 trained")
            member.finished()
            member.finished()  # the second call does nothing

    thread = threading.Thread(target=second)
    thread.start()
    with joined("algo-1", port) as member:
        member.finished()
        order.append("algo-1 is done")
        assert member.lost() is None
    thread.join()
    assert order == ["algo-2 trained", "algo-1 is done"]


@pytest.mark.parametrize(("fails", "learns"), [HOSTS, HOSTS[::-1]])
def test_a_failure_ends_all_hosts(helpers, port, fails, learns):
    """A host whose block raises reports why in a line; the others fail with it, at once."""
    entered = threading.Event()

    def fail():
        with contextlib.suppress(TrainingError), joined(fails, port):
            entered.wait(5)
            raise TrainingError("its worker ended with -9\nExitCode -9")

    thread = threading.Thread(target=fail)
    thread.start()
    with part(learns, port) as member:
        entered.set()
        reason = lost_within(member, 3)
    thread.join()
    assert reason == f"host {fails} was lost: its worker ended with -9"


def test_lost_while_waiting_for_the_others(helpers, port):
    """A host that has finished still fails when another one is lost."""

    def fail():
        with contextlib.suppress(OSError), joined("algo-2", port):
            raise OSError("disk full")

    thread = threading.Thread(target=fail)
    thread.start()
    with pytest.raises(TrainingError, match="^host algo-2 was lost: disk full$"):
        whole("algo-1", port)
    thread.join()


def test_two_hosts_fail(helpers, port):
    """Both give the reason of the first, and the second adds its own."""
    failed = threading.Event()

    def fail():
        with joined("algo-2", port):
            raise TrainingError("no  data\tfor algo-2")

    def first():
        with pytest.raises(TrainingError, match="^no  data\tfor algo-2$"):
            fail()
        failed.set()

    thread = threading.Thread(target=first)

    def second():
        with joined("algo-1", port):
            thread.start()
            assert failed.wait(30)
            error = TrainingError("no memory")
            error.details = "Traceback\n...\n"
            raise error

    with pytest.raises(TrainingError) as caught:
        second()
    thread.join()
    assert str(caught.value) == "host algo-2 was lost: no data for algo-2"
    assert caught.value.details == "algo-1: no memory\nTraceback\n...\n"


def test_a_host_that_is_stopped_says_so(helpers, port):
    """Whatever else has happened: its exit code is that of the signal."""

    def fail():
        with contextlib.suppress(OSError), joined("algo-2", port):
            raise OSError("disk full")

    thread = threading.Thread(target=fail)
    thread.start()

    def stop():
        with joined("algo-1", port) as member:
            lost_within(member, 30)
            raise Stopped(signal.SIGTERM)

    with pytest.raises(Stopped):
        stop()
    thread.join()


def test_asked_to_end_while_waiting(helpers, port):
    """``stop`` ends the wait for the others."""
    with pytest.raises(TrainingError, match="^stopped while other hosts were training$"), joined(
        "algo-1", port
    ) as member:
        member.finished(stop=lambda: True)


def test_a_host_that_never_comes(helpers, port):
    """The hub names it at the limit."""
    hosts = ("algo-1", "algo-2", "algo-3")
    with part("algo-1", port, hosts, join_s=0.3) as member:
        assert lost_within(member, 2) == (
            "hosts algo-2, algo-3 were lost: they did not join within 0.3 s"
        )


def test_a_scheduler_host_that_never_comes(helpers, port):
    """Without a hub, every other host gives up by itself, within its limits."""
    started = time.monotonic()
    message = r"^host algo-1 was lost: it could not be reached within 0\.3 s$"
    with pytest.raises(TrainingError, match=message):
        whole("algo-2", port, join_s=0.3)
    assert time.monotonic() - started < 3


def test_a_failure_before_the_hub_is_there(helpers, port):
    """It is reported once the hub is there."""

    def fail():
        with contextlib.suppress(KeyError), joined("algo-2", port):
            raise KeyError("epochs")

    thread = threading.Thread(target=fail)
    thread.start()
    time.sleep(0.5)
    with pytest.raises(TrainingError, match="host algo-2 was lost: KeyError: 'epochs'"):
        whole("algo-1", port)
    thread.join()


@pytest.mark.parametrize("role", ["scheduler", "server"])
def test_a_helper_that_ends_badly(helpers, port, monkeypatch, role):
    """Its host fails and reports it: without it every worker would wait for ever."""
    monkeypatch.setattr(cluster, "BROKEN_S", 0.1)
    with part("algo-1", port, env={f"{role}_CODE": "3"}) as first:
        assert lost_within(first, 3) == f"host algo-1 was lost: its {role} ended with 3"


def test_ports_in_use(helpers, port):
    """Both ports are checked before anything is started."""
    for used in (port, port + 1):
        message = f"port {used} of 127.0.0.1 cannot be used"
        with socket.create_server(("127.0.0.1", used)), pytest.raises(TrainingError, match=message):
            whole("algo-1", port)
    assert helpers == []


# --- strangers -------------------------------------------------------------------------------


def send(port, data):
    """What the hub answers, until it closes or is silent for a second; and whether it closed."""
    answer = b""
    with socket.create_connection(("127.0.0.1", port + 1)) as connection:
        connection.sendall(data)
        connection.settimeout(1)
        try:
            while True:
                part = connection.recv(4096)
                if not part:
                    return answer, True
                answer += part
        except ConnectionResetError:
            return answer, True
        except OSError:
            return answer, False


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"hello algo-7\n",
        b"hello algo-1\n",  # it has joined already
        b"failed nothing\n",
        b"finished\n",
        b"x" * 5000,
        b"\x80\x04\x95\n",
        b"\n",
    ],
)
def test_strangers_are_disconnected(helpers, port, data):
    """A connection that is not a host's is closed, and the job goes on."""
    with part("algo-1", port) as member:
        time.sleep(0.2)
        answer, closed = send(port, data)
        assert closed
        assert answer == b"" or b"the job has no such host, or it has joined already" in answer
        assert member.lost() is None


def test_many_strangers(helpers, port):
    """The oldest are closed when there are many, so that every host can join."""
    with contextlib.ExitStack() as connections:
        second = threading.Thread(target=whole, args=("algo-2", port))
        with joined("algo-1", port) as member:
            for _ in range(60):
                connections.enter_context(socket.create_connection(("127.0.0.1", port + 1)))
            second.start()
            member.finished()
        second.join()


@pytest.mark.parametrize(
    ("data", "reason"),
    [(b"", "it was silent for 0.6 s"), (b"x" * 2000, "its connection closed")],
)
def test_a_silent_host(helpers, port, data, reason):
    """A host whose machine stands still is lost at the limit; one with a too long line, at once."""
    with part("algo-1", port, lost_s=0.6) as member, socket.create_connection(
        ("127.0.0.1", port + 1)
    ) as connection:
        connection.sendall(b"hello algo-2\n")
        time.sleep(0.2)
        connection.sendall(data)
        assert lost_within(member, 2) == f"host algo-2 was lost: {reason}"


@pytest.mark.parametrize(
    ("close", "reason"), [(False, "it was silent for 0.6 s"), (True, "its connection closed")]
)
def test_a_hub_that_is_gone(helpers, port, close, reason):
    """Every other host notices by itself that the scheduler's host dies or stands still."""
    with socket.create_server(("127.0.0.1", port + 1)) as listener, part(
        "algo-2", port, lost_s=0.6
    ) as member, listener.accept()[0] as connection:
        connection.sendall(b"beat\n")
        if close:
            connection.close()
            listener.close()
        assert lost_within(member, 20) == f"host algo-1 was lost: {reason}"


def test_ports_of_a_trial(monkeypatch):
    """Below those that the system gives to clients."""
    monkeypatch.setattr(cluster, "check_can_listen", lambda address, port: None)
    for pick in (min, max):
        monkeypatch.setattr(cluster.random, "sample", lambda ports, count, pick=pick: [pick(ports)])
        assert 20_000 <= cluster.local_port() < 32_000


@pytest.mark.parametrize("used", [range(20_000, 32_001), range(20_000, 32_001, 2)])
def test_ports_that_are_all_in_use(monkeypatch, used):
    """Nothing is started on a port that another program may have; every second one is no pair."""

    def in_use(address, port):
        if port in used:
            raise TrainingError(f"{port} is in use")

    monkeypatch.setattr(cluster, "check_can_listen", in_use)
    with pytest.raises(TrainingError, match="^no two successive free ports on 127.0.0.1 between "):
        cluster.local_port()


def test_helpers_end_before_the_job_does(tmp_path):
    """The server writes the optimizer's states and logs at its end; only then may it be killed."""
    path = tmp_path / "ended"
    program = f"import time; time.sleep(0.3); open({str(path)!r}, 'w')"
    process = subprocess.Popen([sys.executable, "-c", program])
    watch = type("Watch", (), {"send": lambda *_: None, "done": threading.Event()})()
    watch.done.set()
    try:
        cluster.Member("algo-1", {}, {"server": process}, watch).finished()
        assert path.exists()
        assert process.returncode == 0
    finally:
        process.kill()
        process.wait()


def test_a_helper_is_what_importing_mxnet_makes_of_a_process(tmp_path):
    """With its role, and in the root folder: no file of the user's is imported instead."""
    seen = tmp_path / "seen"
    (tmp_path / "mxnet.py").write_text(
        "import os\n"
        f"with open({str(seen)!r}, 'w') as file:\n"
        "    print(os.environ['DMLC_ROLE'], os.getcwd(), file=file)\n"
    )
    env = {**os.environ, "DMLC_ROLE": "scheduler", "PYTHONPATH": str(tmp_path)}
    with cluster._helper(env) as process:
        assert process.wait(60) == 0
    assert seen.read_text() == "scheduler /\n"
