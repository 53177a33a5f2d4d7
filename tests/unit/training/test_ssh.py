"""training.ssh: an sshd for one job, with the real one where it is installed."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess

import pytest

from mms_handler.errors import TrainingError
from mms_handler.training import ssh

SSHD = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")
with_sshd = pytest.mark.skipif(SSHD is None, reason="openssh-server is not installed")


@pytest.fixture
def port():
    with socket.create_server(("127.0.0.2", 0)) as listener:
        return listener.getsockname()[1]


@pytest.fixture
def folders(tmp_path):
    """The folder of the first host, with its key, and that of another one."""
    for name in ("first", "other"):
        (tmp_path / name).mkdir(mode=0o700)
    return tmp_path / "first", tmp_path / "other"


def login(config, *command, **options):
    words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    return subprocess.run(
        ["ssh", *words, "-F", config, "algo-2", *command], capture_output=True, text=True
    )


@with_sshd
def test_the_folder_that_sshd_wants(folders, port, monkeypatch):
    """It stays empty; only root's sshd needs it, and only root may make it."""
    made, makedirs = [], os.makedirs

    def recorded(path, **options):
        made.append((path, options))
        makedirs(path, **options)

    monkeypatch.setattr(os, "makedirs", recorded)
    with ssh.server(folders[1], "127.0.0.2", port, ssh.make_key(folders[0] / "key"), "127.0.0.1"):
        assert made == [("/run/sshd", {"mode": 0o755, "exist_ok": True})]


@with_sshd
def test_one_command_is_handed_over(folders, port):
    """As it is, with quotes; it is not run, and a second one is refused."""
    first, other = folders
    key = ssh.make_key(first / "key")
    with ssh.server(other, "127.0.0.2", port, key, "127.0.0.1") as door:
        assert ssh.Door.from_text(door.to_text()) == door
        config = ssh.write_client_config(first, "127.0.0.1", {"algo-2": ("127.0.0.2", door)})
        done = login(config, f"touch '{other}/a  b'; exit 3")
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert (other / "command").read_text() == f"touch '{other}/a  b'; exit 3\n"
        assert not (other / "a  b").exists()
        assert login(config, "other").returncode == 1
        assert (other / "command").read_text().startswith("touch")
    assert login(config, "again").returncode == 255


@with_sshd
def test_who_cannot_log_in(folders, port, tmp_path):
    """Another key, another address, and a client that asks for another host key."""
    first, other = folders
    key = ssh.make_key(first / "key")
    with ssh.server(other, "127.0.0.2", port, key, "127.0.0.1") as door:
        config = ssh.write_client_config(first, "127.0.0.1", {"algo-2": ("127.0.0.2", door)})
        ssh.make_key(tmp_path / "key")
        stranger = ssh.write_client_config(tmp_path, "127.0.0.1", {"algo-2": ("127.0.0.2", door)})
        assert login(stranger, "true").returncode == 255
        (tmp_path / "none").touch()
        for name, value in {
            "BindAddress": "127.0.0.3",
            "UserKnownHostsFile": str(tmp_path / "none"),
            "PreferredAuthentications": "password,keyboard-interactive",
        }.items():
            assert login(config, "true", **{name: value}).returncode == 255
        assert not (other / "command").exists()


@with_sshd
def test_the_port_is_in_use(folders, port):
    """By another job, for instance."""
    server = ssh.server(folders[1], "127.0.0.2", port, "ssh-ed25519 AAAA", "127.0.0.1")
    expected = pytest.raises(TrainingError, match=f"^port {port} of 127.0.0.2 cannot be used: ")
    with socket.create_server(("127.0.0.2", port)), expected, server:
        pass


@with_sshd
def test_an_sshd_that_does_not_start(folders, port, monkeypatch):
    """Its own words say why."""
    monkeypatch.setattr(ssh, "_SSHD", ssh._SSHD + "NoSuchOption yes\n")
    server = ssh.server(folders[1], "127.0.0.2", port, "ssh-ed25519 AAAA", "127.0.0.1")
    message = f"^sshd could not start on port {port} of 127.0.0.2: .*terminating, 1 bad config"
    with pytest.raises(TrainingError, match=message), server:
        pass


@with_sshd
def test_an_sshd_that_takes_too_long(folders, port, monkeypatch):
    """It is not waited for any longer."""
    monkeypatch.setattr(ssh, "START_S", 0)
    server = ssh.server(folders[1], "127.0.0.2", port, "ssh-ed25519 AAAA", "127.0.0.1")
    message = f"^sshd could not start on port {port} of 127.0.0.2: "
    with pytest.raises(TrainingError, match=message), server:
        pass


def test_a_program_that_is_missing(monkeypatch):
    """The package is named."""
    monkeypatch.setattr(ssh.shutil, "which", lambda name, path: None)
    with pytest.raises(TrainingError, match="^sshd is not installed: apt-get install openssh-"):
        ssh.find("sshd", "openssh-server")


def test_a_user_without_a_name(monkeypatch, folders, port):
    """ssh refuses such a user; a container may have one."""
    monkeypatch.setattr(ssh, "find", lambda name, package: name)
    monkeypatch.setattr(ssh.os, "getuid", lambda: 4_000_000_000)
    server = ssh.server(folders[1], "127.0.0.2", port, "key", "127.0.0.1")
    message = "^the user 4000000000 has no name in /etc/passwd"
    with pytest.raises(TrainingError, match=message), server:
        pass


def test_a_key_that_cannot_be_made(tmp_path):
    """The reason is ssh-keygen's."""
    if shutil.which("ssh-keygen") is None:
        pytest.skip("openssh-client is not installed")
    with pytest.raises(TrainingError, match="^ssh-keygen could not make a key: .*No such file"):
        ssh.make_key(tmp_path / "none" / "key")


def test_how_hosts_are_reached(tmp_path):
    """By their names, each at its own port, as its own user and with its own key."""
    doors = {
        "algo-2": ("10.0.0.2", ssh.Door(1022, "me", "ssh-ed25519 KEY2")),
        "algo-3": ("10.0.0.3", ssh.Door(1023, "root", "ssh-ed25519 KEY3")),
    }
    path = ssh.write_client_config(tmp_path, "10.0.0.1", doors)
    assert (tmp_path / "known_hosts").read_text() == (
        "algo-2 ssh-ed25519 KEY2\nalgo-3 ssh-ed25519 KEY3\n"
    )
    hosts = path.read_text().split("Host algo-")[1:]
    assert [host.split() for host in hosts] == [
        f"{n} HostName 10.0.0.{n} HostKeyAlias algo-{n} Port {port} User {user}".split()
        for n, port, user in ((2, 1022, "me"), (3, 1023, "root"))
    ]


def test_a_door_is_a_line():
    door = ssh.Door(1022, "me", "ssh-ed25519 AAAA a comment")
    assert door.to_text() == "1022 me ssh-ed25519 AAAA a comment"
    assert ssh.Door.from_text(door.to_text()) == door
