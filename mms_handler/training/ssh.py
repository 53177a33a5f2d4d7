"""An sshd for one job, which accepts one key and one command.

first host: key pair ──public key──▶ other host: sshd
            ssh      ◀──port, user, host key──┘

The sshd belongs to this user and needs none of the machine's settings.  Whoever logs in can only
hand over the text of a command, which is written to a file; nothing is run here.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pwd
import shlex
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import Iterator, Mapping, NamedTuple

from mms_handler import processes
from mms_handler.errors import TrainingError
from mms_handler.training.hub import check_can_listen

log = logging.getLogger(__name__)

#: Seconds in which an sshd must listen.
START_S = 20

_SSHD = """\
ListenAddress {address}
Port {port}
HostKey "{folder}/host_key"
AuthorizedKeysFile "{folder}/authorized_keys"
PidFile none
AllowUsers {user}
AuthenticationMethods publickey
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
# The folder is this user's alone, but it is in /tmp, which sshd would not trust.
StrictModes no
DisableForwarding yes
PermitTTY no
PermitUserRC no
PermitRootLogin forced-commands-only
"""

#: Writes the command to a file, the first one only.
_ACCEPT = """\
cd {folder} && [ ! -e command ] || exit 1
printf '%s\\n' "$SSH_ORIGINAL_COMMAND" > command~ && mv command~ command
"""

_SSH = """\
Host *
  IdentityFile "{folder}/key"
  IdentitiesOnly yes
  IdentityAgent none
  BatchMode yes
  StrictHostKeyChecking yes
  UserKnownHostsFile "{folder}/known_hosts"
  GlobalKnownHostsFile /dev/null
  BindAddress {address}
  ConnectTimeout 30
  LogLevel ERROR
"""


class Door(NamedTuple):
    """Where a host's sshd listens, for whom, and the key by which it is known."""

    port: int
    user: str
    key: str

    def to_text(self) -> str:
        """The door as one line."""
        return f"{self.port} {self.user} {self.key}"

    @classmethod
    def from_text(cls, text: str) -> Door:
        """The door that ``to_text`` wrote."""
        port, user, key = text.split(" ", 2)
        return cls(int(port), user, key)


def find(program: str, package: str) -> str:
    """The path of a program.

    Raises:
        TrainingError: it is not installed; names the package to install.
    """
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"))
    program_path = shutil.which(program, path=path)
    if program_path is None:
        raise TrainingError(f"{program} is not installed: apt-get install {package}")
    return program_path


def make_key(path: Path) -> str:
    """Make a key pair, in PATH and PATH.pub; returns the public key, its type and its text."""
    program = find("ssh-keygen", "openssh-client")
    words = [program, "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(path)]
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        raise TrainingError(f"ssh-keygen could not make a key: {done.stderr.strip()}")
    return path.with_suffix(".pub").read_text().strip()


def write_client_config(folder: Path, address: str, doors: Mapping[str, tuple[str, Door]]) -> Path:
    """Write a configuration of ssh by which the hosts can be reached by their names.

    Args:
        folder: has this host's ``key``.
        address: of this host.
        doors: the other hosts' addresses and doors, by name.

    Returns:
        The configuration's path, for ``ssh -F``.
    """
    config = [_SSH.format(folder=folder, address=address)]
    known = []
    for host, (host_address, door) in doors.items():
        config.append(f"Host {host}\n  HostName {host_address}\n  HostKeyAlias {host}")
        config.append(f"  Port {door.port}\n  User {door.user}")
        known.append(f"{host} {door.key}\n")
    (folder / "known_hosts").write_text("".join(known))
    path = folder / "ssh_config"
    path.write_text("\n".join(config) + "\n")
    return path


@contextlib.contextmanager
def server(folder: Path, address: str, port: int, key: str, client: str) -> Iterator[Door]:
    """Run an sshd for the length of a ``with`` block; a command that comes is in FOLDER/command.

    Args:
        folder: an empty folder of this user's.
        address: where it listens.
        port: where it listens.
        key: the public key that may log in.
        client: the address from which it may.

    Raises:
        TrainingError: sshd is not installed, this user has no name, the port is in use, or sshd
            does not start.
    """
    program = find("sshd", "openssh-server")
    door = Door(port, _user(), make_key(folder / "host_key"))
    (folder / "accept").write_text(_ACCEPT.format(folder=shlex.quote(str(folder))))
    command = f"/bin/sh {shlex.quote(str(folder / 'accept'))}".replace('"', '\\"')
    options = f'restrict,from="{client}",command="{command}"'
    (folder / "authorized_keys").write_text(f"{options} {key}\n")
    check_can_listen(address, port)
    config = folder / "sshd_config"
    config.write_text(_SSHD.format(folder=folder, address=address, port=port, user=door.user))
    with contextlib.suppress(OSError):  # root's sshd wants this folder, which images lack
        os.makedirs("/run/sshd", mode=0o755, exist_ok=True)
    with (folder / "sshd.log").open("wb") as file, processes.group(
        [program, "-D", "-e", "-f", str(config)],
        env={"PATH": os.defpath},
        cwd=folder,
        stdout=file,
        stderr=file,
    ) as process:
        _wait_until_it_listens(process, address, port, folder / "sshd.log")
        yield door


def _user() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        raise TrainingError(
            f"the user {os.getuid()} has no name in /etc/passwd, which ssh needs; run the job as "
            "a user that has one, or add it"
        ) from None


def _wait_until_it_listens(
    process: subprocess.Popen[bytes], address: str, port: int, path: Path
) -> None:
    deadline = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            socket.create_connection((address, port), timeout=1).close()
            return
        time.sleep(0.05)
    lines = path.read_text(errors="replace").strip().splitlines()
    reason = lines[-1] if lines else f"it does not listen after {START_S} s"
    raise TrainingError(f"sshd could not start on port {port} of {address}: {reason}")
