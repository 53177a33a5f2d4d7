"""training.mpi_hosts: each host's part in running a script with mpirun; tests/e2e runs it."""

from __future__ import annotations

import contextlib
import logging
import stat

import pytest

from mms_handler.errors import TrainingError
from mms_handler.training import mpi, mpi_hosts, ssh
from mms_handler.training.job import Job
from mms_handler.training.supervise import Command

ADDRESSES = {"a": "10.0.0.1", "b": "10.0.0.2", "c": "10.0.0.3"}


class Member:
    """A host's part in a cluster whose other hosts have noted this."""

    addresses = ADDRESSES

    def __init__(self, **notes):
        self.notes, self.noted, self.checks = notes, [], 0

    def note(self, text):
        self.noted.append(text)

    def read_note(self, host):
        return self.notes[host]

    def check(self):
        self.checks += 1


@pytest.fixture
def part(tmp_path, monkeypatch):
    """A host's command, for the length of a block, where all programs are installed."""
    monkeypatch.setattr(mpi.shutil, "which", lambda name: f"/bin/{name}")
    monkeypatch.setattr(ssh, "find", lambda name, package: f"/bin/{name}")
    monkeypatch.setattr(ssh, "make_key", lambda path: f"the public half of {path.name}")
    cwd = tmp_path / "code of mine"
    command = Command(["python", "train.py", "--a", "b c"], {"SM_A": "1"}, cwd, cwd, None)

    def part(host, member, port=None):
        job = Job(cwd / "train.py", {}, {}, tmp_path, tmp_path, tuple("cab"), host)
        return mpi_hosts.spread(command, job, member, tmp_path / "mpi", port)

    return part


def test_the_first_host(part, tmp_path):
    """It gives its key to all, takes their doors, and runs mpirun."""
    doors = [ssh.Door(1000 + n, "me", f"ssh-ed25519 KEY{n}") for n in range(2)]
    member = Member(b=doors[0].to_text(), c=doors[1].to_text())
    with part("a", member) as command:
        assert member.noted == ["the public half of key"]
        text = " ".join(command.words)
        assert text.startswith("/bin/mpirun --host localhost:1,b:1,c:1 -np 3 ")
        config = tmp_path / "mpi" / "ssh_config"
        for option in (
            "--noprefix",
            "--leave-session-attached",
            f"-mca plm_rsh_agent /bin/ssh -F {config}",
            "-mca plm_rsh_no_tree_spawn 1",
            "-mca oob_tcp_if_include 10.0.0.0/30",
        ):
            assert f" {option} " in text
        assert command.words[-3:] == ["/bin/sh", "-c", 'exec /bin/sh "$MPI_PROCESS_SCRIPT"']
        assert "Host c\n  HostName 10.0.0.3\n" in config.read_text()
        assert "  BindAddress 10.0.0.1\n" in config.read_text()
        killed = "mpirun noticed that process rank 1 with PID 5 on node b exited on signal 9"
        assert command.reason([killed]) == "rank 1 on b was killed by SIGKILL"
        assert command.peers_reason_s == 5


def test_what_each_process_runs(part, tmp_path):
    """The words of the host's own command, in its folder; the keys are this user's alone."""
    with part("a", Member(b="1 me K", c="2 me K")) as command:
        script = tmp_path / "mpi" / "process"
        assert command.variables == {"SM_A": "1", "MPI_PROCESS_SCRIPT": str(script)}
        expected = f"cd '{tmp_path}/code of mine' && exec python train.py --a 'b c'\n"
        assert script.read_text() == expected
        assert stat.S_IMODE(script.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize("port", [None, 8002])
def test_another_host(part, tmp_path, monkeypatch, port):
    """It lets only the first host in, and runs what that hands over."""
    servers = []

    @contextlib.contextmanager
    def server(*arguments):
        servers.append(arguments)
        (tmp_path / "mpi" / "command").write_text("orted -mca a b\n")
        yield ssh.Door(arguments[2], "me", "KEY")
        servers.append("closed")

    monkeypatch.setattr(ssh, "server", server)
    monkeypatch.setattr(mpi_hosts, "_free_port", lambda address: 7 if address == "10.0.0.2" else 0)
    member = Member(a="the key of a")
    with part("b", member, port) as command:
        folder = tmp_path / "mpi"
        assert servers == [(folder, "10.0.0.2", port or 7, "the key of a", "10.0.0.1")]
        assert member.noted == [f"{port or 7} me KEY"]
        assert command.words == ["/bin/sh", "-c", "orted -mca a b"]
        assert command.variables["MPI_PROCESS_SCRIPT"] == str(folder / "process")
        assert command.peers_reason_s == 10
    assert servers[1:] == ["closed"]


@pytest.mark.parametrize("host", ["a", "b"])
def test_a_host_without_mpirun(part, monkeypatch, host):
    """It says so before any other host waits for it."""
    monkeypatch.setattr(mpi.shutil, "which", lambda name: None)
    member = Member(a="key", b="1 me K", c="2 me K")
    expected = pytest.raises(TrainingError, match="^mpirun is not installed")
    with expected, part(host, member):
        pass
    assert member.noted == []


def test_a_command_that_comes_late(tmp_path):
    """Until then it is checked that the job can go on."""
    member = Member()

    def check():
        member.checks += 1
        if member.checks == 2:
            (tmp_path / "command").write_text("orted\n")

    member.check = check
    assert mpi_hosts._wait_for_command(tmp_path, member) == "orted"
    assert member.checks == 2


def test_a_command_that_never_comes(tmp_path, caplog):
    """The log has sshd's own words."""
    caplog.set_level(logging.INFO)
    (tmp_path / "sshd.log").write_text("Connection closed\nby a\n")
    member = Member()

    def check():
        raise TrainingError("host a was lost")

    member.check = check
    with pytest.raises(TrainingError, match="^host a was lost$"):
        mpi_hosts._wait_for_command(tmp_path, member)
    assert caplog.messages == ["sshd: Connection closed", "sshd: by a"]


def test_a_free_port():
    """Another job on this machine may have the usual one."""
    assert 0 < mpi_hosts._free_port("127.0.0.1") < 65_536


@pytest.mark.parametrize(
    ("addresses", "network"),
    [
        (["10.0.0.1", "10.0.0.2"], "10.0.0.0/30"),
        (["10.244.1.5", "10.244.2.7", "10.244.1.9"], "10.244.0.0/22"),
        (["10.0.0.1", "192.168.0.1"], "0.0.0.0/0"),
        (["10.0.0.1", "10.0.0.1"], "10.0.0.1/32"),
        (["127.0.0.2", "127.0.0.3"], "lo"),
    ],
)
def test_the_network_of_the_hosts(addresses, network):
    """The smallest one that has all addresses."""
    options = {"oob_tcp_if_include": network, "btl_tcp_if_include": network}
    assert mpi_hosts._networks(addresses) == options
