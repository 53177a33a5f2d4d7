"""Addresses, what ps-lite reads, who is alive, mpirun: with stand-ins for the helpers."""

from __future__ import annotations

import contextlib
import itertools
import socket
import subprocess
import sys
import threading
import time

import pytest

from mms_handler.errors import TrainingError
from mms_handler.training import cluster, peers

HOSTS = ("algo-1", "algo-2")


# --- addresses -------------------------------------------------------------------------------


def resolver(table, failures=0):
    asked = []

    def resolve(host):
        asked.append(host)
        if host not in table or asked.count(host) <= failures:
            raise socket.gaierror(-2, "Name or service not known")
        return table[host]

    resolve.asked = asked
    return resolve


def test_addresses_scheduler_first():
    """Every host has its address, the first one by name first, whatever order they came in."""
    resolve = resolver({"algo-10": "10.0.0.3", "algo-2": "10.0.0.2", "algo-1": "10.0.0.1"})
    found = cluster.addresses(["algo-2", "algo-10", "algo-1"], resolve)
    assert list(found.items()) == [
        ("algo-1", "10.0.0.1"),
        ("algo-10", "10.0.0.3"),
        ("algo-2", "10.0.0.2"),
    ]
    assert resolve.asked[0] == "algo-1"


def test_addresses_come_late():
    """A name that is not known yet is asked for again, the others are not."""
    resolve = resolver({"a": "10.0.0.1", "b": "10.0.0.2"}, failures=2)
    assert cluster.addresses(["a", "b"], resolve, limit_s=5) == {"a": "10.0.0.1", "b": "10.0.0.2"}
    assert sorted(resolve.asked) == ["a"] * 3 + ["b"] * 3


def test_addresses_never_come():
    """All names without an address are in the error, and it comes within the limit."""
    began = time.monotonic()
    with pytest.raises(TrainingError, match=r"no address within 0\.3 s for algo-2, algo-3"):
        cluster.addresses(["algo-3", "algo-1", "algo-2"], resolver({"algo-1": "1.2.3.4"}), 0.3)
    assert 0.3 <= time.monotonic() - began < 1


def test_a_name_that_cannot_be_one():
    """What the real resolver refuses with a UnicodeError is a host without an address."""
    with pytest.raises(TrainingError, match="no address"):
        cluster.addresses(["a" * 70 + ".example"], limit_s=0)


def test_own_name_on_loopback():
    """A host that only this one can reach is an error; a cluster of such hosts is a trial."""
    table = {"a": "127.0.1.1", "b": "10.0.0.2"}
    with pytest.raises(TrainingError, match=r"a is 127\.0\.1\.1 on this host"):
        cluster.addresses(["a", "b"], resolver(table))
    assert cluster.addresses(["a"], resolver(table)) == {"a": "127.0.1.1"}


def test_pauses_double_up_to_thirty_seconds():
    paused = list(itertools.islice(cluster.pauses(), 11))
    assert paused[:4] == [0.1, 0.2, 0.4, 0.8]
    assert paused[-2:] == [30, 30]


# --- what ps-lite reads, what goes over the wire ---------------------------------------------


def test_variables_are_strings():
    """Popen takes nothing else; a number here was the original's crash."""
    assert cluster.variables(2, "10.0.0.1", 8000, "10.0.0.2", 1) == {
        "DMLC_NUM_WORKER": "2",
        "DMLC_NUM_SERVER": "2",
        "DMLC_PS_ROOT_URI": "10.0.0.1",
        "DMLC_PS_ROOT_PORT": "8000",
        "DMLC_NODE_HOST": "10.0.0.2",
        "PS_VERBOSE": "1",
    }


@pytest.mark.parametrize("text", ["", "two\nlines\tof it", "é" * 2000, "\x1b[31mred\x00"])
def test_a_message_is_one_short_line(text):
    """Whatever is said, it is one line of bounded length, and what is heard is harmless."""
    sent = peers.line("failed", text)
    assert sent.count(b"\n") == 1
    assert sent.endswith(b"\n")
    assert len(sent) <= peers.LINE_BYTES
    word, heard = peers.message(sent[:-1])
    assert word == "failed"
    assert heard.isprintable()


# --- who is alive ----------------------------------------------------------------------------


@pytest.fixture
def port():
    return cluster.local_port()


@pytest.fixture
def helpers(monkeypatch):
    """Stand-ins for scheduler and server, that end well when ``over`` is set; all that ran."""
    ran = []

    @contextlib.contextmanager
    def helper(env):
        code = env.get(f"{env['DMLC_ROLE']}_CODE")
        sleep = f"import sys; sys.exit({code})" if code else "import sys; sys.stdin.read()"
        process = subprocess.Popen([sys.executable, "-c", sleep], stdin=subprocess.PIPE)
        ran.append((env, process))
        try:
            yield process
        finally:
            process.kill()
            process.wait()
            process.stdin.close()

    monkeypatch.setattr(cluster, "_helper", helper)
    monkeypatch.setattr(cluster, "HELPERS_S", 0.2)
    return ran


def joined(host, port, hosts=HOSTS, env=(), **limits):
    limits = {"join_s": 10, "lost_s": 10, **limits}
    addresses = dict.fromkeys(hosts, "127.0.0.1")
    return cluster.joined(hosts, host, addresses=addresses, env=dict(env), port=port, **limits)


class Enough(Exception):
    pass


@contextlib.contextmanager
def part(host, port, hosts=HOSTS, env=(), **limits):
    """As ``joined``, and left by an exception: without waiting for the others."""
    with contextlib.suppress(Enough), joined(host, port, hosts, env, **limits) as member:
        yield member
        raise Enough


def whole(host, port, **limits):
    """A host whose worker ends well at once."""
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
    assert [process.returncode for _, process in helpers] == [-9, -9, -9]


def test_all_finish(helpers, port):
    """Who finishes first waits for the last one; helpers nobody used are ended."""
    order = []

    def second():
        with joined("algo-2", port) as member:
            time.sleep(0.5)
            order.append("algo-2 trained")
            member.finished()
            member.finished()  # says it once

    thread = threading.Thread(target=second)
    thread.start()
    with joined("algo-1", port) as member:
        member.finished()
        order.append("algo-1 is done")
        assert member.lost() is None
    thread.join()
    assert order == ["algo-2 trained", "algo-1 is done"]


@pytest.mark.parametrize(("fails", "learns"), [HOSTS, HOSTS[::-1]])
def test_a_failure_is_told(helpers, port, fails, learns):
    """A host whose block raises says why in a line; the others fail with it, at once."""
    entered = threading.Event()

    def fail():
        with contextlib.suppress(TrainingError), joined(fails, port):
            entered.wait(5)
            raise TrainingError("its worker ended with -9\nExitCode -9")

    thread = threading.Thread(target=fail)
    thread.start()
    with part(learns, port) as member:
        entered.set()
        said = lost_within(member, 3)
    thread.join()
    assert said == f"host {fails} was lost: its worker ended with -9"


def test_lost_while_waiting_for_the_others(helpers, port):
    """A host that has finished fails, too, when another one is lost."""

    def fail():
        with contextlib.suppress(OSError), joined("algo-2", port):
            raise OSError("disk full")

    thread = threading.Thread(target=fail)
    thread.start()
    with pytest.raises(TrainingError, match="^host algo-2 was lost: disk full$"):
        whole("algo-1", port)
    thread.join()


def test_asked_to_end_while_waiting(helpers, port):
    """``stop`` ends the wait for the others."""
    with pytest.raises(TrainingError, match="asked to end"), joined("algo-1", port) as member:
        member.finished(stop=lambda: True)


def test_a_host_that_never_comes(helpers, port):
    """The hub names it when the time is over."""
    hosts = ("algo-1", "algo-2", "algo-3")
    with part("algo-1", port, hosts, join_s=0.3) as member:
        assert lost_within(member, 2) == ("hosts algo-2, algo-3 were lost: not here within 0.3 s")


def test_a_scheduler_host_that_never_comes(helpers, port):
    """Without a hub, every other host says so by itself, and leaves within its limits."""
    began = time.monotonic()
    with pytest.raises(TrainingError, match="^host algo-1 was lost: not here within 0.3 s$"):
        whole("algo-2", port, join_s=0.3)
    assert time.monotonic() - began < 3


def test_a_failure_before_the_hub_is_there(helpers, port):
    """It is kept for the hub, for a while."""

    def fail():
        with contextlib.suppress(KeyError), joined("algo-2", port):
            raise KeyError("epochs")

    thread = threading.Thread(target=fail)
    thread.start()
    time.sleep(0.5)
    with pytest.raises(TrainingError, match="host algo-2 was lost: 'epochs'"):
        whole("algo-1", port)
    thread.join()


@pytest.mark.parametrize("role", ["scheduler", "server"])
def test_a_helper_that_ends_badly(helpers, port, monkeypatch, role):
    """It fails its host, which says so: without it every worker would wait for ever."""
    monkeypatch.setattr(cluster, "BROKEN_S", 0.1)
    with part("algo-1", port, env={f"{role}_CODE": "3"}) as first:
        assert lost_within(first, 3) == f"host algo-1 was lost: its {role} ended with 3"


def test_ports_in_use(helpers, port):
    """Both ports are tried before anything is started."""
    for taken in (port, port + 1):
        said = f"port {taken} of 127.0.0.1 cannot be used"
        with socket.create_server(("127.0.0.1", taken)), pytest.raises(TrainingError, match=said):
            whole("algo-1", port)
    assert helpers == []


# --- strangers -------------------------------------------------------------------------------


def call(port, said):
    """Say something to the hub; what it answers until it closes, or is silent for a second."""
    heard = b""
    with socket.create_connection(("127.0.0.1", port + 1)) as connection:
        connection.sendall(said)
        connection.settimeout(1)
        try:
            while True:
                came = connection.recv(4096)
                if not came:
                    return heard, True
                heard += came
        except ConnectionResetError:
            return heard, True
        except OSError:
            return heard, False


@pytest.mark.parametrize(
    "said",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"hello algo-7\n",
        b"hello algo-1\n",  # there is one already
        b"failed nothing\n",
        b"finished\n",
        b"x" * 5000,
        b"\x80\x04\x95\n",
        b"\n",
    ],
)
def test_strangers_are_sent_away(helpers, port, said):
    """Who is none of the hosts is closed, and the job goes on as if nothing had been."""
    with part("algo-1", port) as member:
        time.sleep(0.2)
        heard, closed = call(port, said)
        assert closed
        assert heard == b"" or b"the job has no place for it" in heard
        assert member.lost() is None


def test_many_strangers(helpers, port):
    """They are closed when there are more than anybody needs, and keep no host away."""
    with contextlib.ExitStack() as held:
        second = threading.Thread(target=whole, args=("algo-2", port))
        with joined("algo-1", port) as member:
            for _ in range(60):
                held.enter_context(socket.create_connection(("127.0.0.1", port + 1)))
            second.start()
            member.finished()
        second.join()


@pytest.mark.parametrize(
    ("said", "reason"),
    [(b"", "it was silent for 0.6 s"), (b"x" * 2000, "its connection closed")],
)
def test_a_silent_host(helpers, port, said, reason):
    """A host whose machine stands still is lost after the limit; one that babbles, at once."""
    with part("algo-1", port, lost_s=0.6) as member, socket.create_connection(
        ("127.0.0.1", port + 1)
    ) as connection:
        connection.sendall(b"hello algo-2\n")
        time.sleep(0.2)
        connection.sendall(said)
        assert lost_within(member, 2) == f"host algo-2 was lost: {reason}"


@pytest.mark.parametrize(
    ("close", "reason"), [(False, "it was silent for 0.6 s"), (True, "its connection closed")]
)
def test_a_hub_that_is_gone(helpers, port, close, reason):
    """Every other host notices by itself when the scheduler's host dies or stands still."""
    with socket.create_server(("127.0.0.1", port + 1)) as hub, part(
        "algo-2", port, lost_s=0.6
    ) as member, hub.accept()[0] as connection:
        if close:
            connection.close()
        assert lost_within(member, 2) == f"host algo-1 was lost: {reason}"


# --- mpirun ----------------------------------------------------------------------------------


def test_mpi_command(monkeypatch):
    monkeypatch.setattr(cluster.shutil, "which", lambda name: f"/usr/bin/{name}")
    options = "--bind-to none -x 'A=b c'"
    made = cluster.mpi_command(HOSTS, 4, options, ["python", "train.py"], ["SM_HPS"])
    assert " ".join(made) == (
        "/usr/bin/mpirun --host algo-1:4,algo-2:4 -np 8 --allow-run-as-root --tag-output "
        "-mca orte_abort_on_non_zero_status 1 -x SM_HPS --bind-to none -x A=b c python train.py"
    )
    assert made[-3] == "A=b c"
    with pytest.raises(TrainingError, match="options of mpirun"):
        cluster.mpi_command(HOSTS, 1, "'open", ["x"])


def test_no_mpirun(monkeypatch):
    monkeypatch.setattr(cluster.shutil, "which", lambda name: None)
    with pytest.raises(TrainingError, match="mpirun is not installed"):
        cluster.mpi_command(["algo-1"], 1, "", ["python", "train.py"])
