"""Run a script's processes on several hosts: mpirun on the first one, orted on each other one.

first host: public key ──▶ all hosts     doors ──▶ mpirun ──ssh──▶ orted's command
other host: key ──▶ sshd ──door──▶ all hosts     orted's command ──▶ orted ──▶ script

The keys and the doors go over the connections of the job's hub.  Each host runs its own mpirun or
orted, as it runs the process of another script, and so knows when it ends.
"""

from __future__ import annotations

import contextlib
import functools
import ipaddress
import logging
import shlex
import socket
import time
from pathlib import Path
from typing import Iterator, Sequence

from mms_handler.training import mpi, ssh
from mms_handler.training.cluster import Member
from mms_handler.training.job import Job
from mms_handler.training.messages import TICK_S
from mms_handler.training.supervise import Command

log = logging.getLogger(__name__)

#: The variable with the path of the script of a host's processes.  mpirun has one command for all
#: hosts, but each host has its own folders.
_SCRIPT = "MPI_PROCESS_SCRIPT"

#: Seconds for the host whose process has failed to say why, after all have been ended.
REASON_S = 5


@contextlib.contextmanager
def spread(
    command: Command, job: Job, member: Member, folder: Path, port: int | None
) -> Iterator[Command]:
    """Yield the command by which this host takes part in running ``command`` on all hosts.

    Args:
        command: what each process runs, on this host.
        job: this host's part.
        member: this host.
        folder: a new folder, for keys; its parents belong to this user alone.
        port: of the sshd; None takes a free one.

    Raises:
        TrainingError: a program is not installed, a hyperparameter is invalid, or a host was lost.
    """
    folder.mkdir(mode=0o700)
    script = folder / "process"
    script.write_text(f"cd {shlex.quote(str(command.cwd))} && exec {shlex.join(command.words)}\n")
    command = command._replace(
        variables={**command.variables, _SCRIPT: str(script)}, peers_reason_s=REASON_S
    )
    if job.current_host == job.first_host:
        reason = functools.partial(mpi.reason, hosts=job.hosts)
        yield command._replace(words=_mpirun(job, member, folder), reason=reason)
        return
    command = command._replace(peers_reason_s=2 * REASON_S)  # mpirun knows more than orted
    address = member.addresses[job.current_host]
    mpi.find()  # of which orted is a part
    key = member.read_note(job.first_host)
    client = member.addresses[job.first_host]
    with ssh.server(folder, address, port or _free_port(address), key, client) as door:
        member.note(door.to_text())
        orted = _wait_for_command(folder, member)
        yield command._replace(words=["/bin/sh", "-c", orted])


def _mpirun(job: Job, member: Member, folder: Path) -> list[str]:
    """The first host's command, once all others can be reached."""
    mpi.find()
    agent = ssh.find("ssh", "openssh-client")
    member.note(ssh.make_key(folder / "key"))
    others = [host for host in sorted(job.hosts) if host != job.first_host]
    doors = {
        host: (member.addresses[host], ssh.Door.from_text(member.read_note(host)))
        for host in others
    }
    config = ssh.write_client_config(folder, member.addresses[job.first_host], doors)
    options = {
        "plm_rsh_agent": f"{agent} -F {config}",
        "plm_rsh_no_tree_spawn": "1",  # only this host has the key
        **_networks(list(member.addresses.values())),
    }
    command = ["/bin/sh", "-c", f'exec /bin/sh "${_SCRIPT}"']
    # --noprefix: each host finds its own orted.  --leave-session-attached: orted is no daemon.
    words = ["--noprefix", "--leave-session-attached"]
    return mpi.command_line(job, ["localhost", *others], command, options, words)


def _networks(addresses: Sequence[str]) -> dict[str, str]:
    """Options by which Open MPI uses only the network of the hosts' addresses.

    Otherwise it also tries to connect by those that machines have for themselves, as Docker's.
    """
    numbers = [int(ipaddress.IPv4Address(address)) for address in addresses]
    differing = (min(numbers) ^ max(numbers)).bit_length()
    network = ipaddress.ip_network((min(numbers) >> differing << differing, 32 - differing))
    name = "lo" if ipaddress.ip_address(addresses[0]).is_loopback else str(network)
    return {"oob_tcp_if_include": name, "btl_tcp_if_include": name}


def _wait_for_command(folder: Path, member: Member) -> str:
    """The command that the first host hands over."""
    path = folder / "command"
    try:
        while not path.exists():
            member.check()
            time.sleep(TICK_S)
    except BaseException:
        for line in (folder / "sshd.log").read_text(errors="replace").splitlines():
            log.info("sshd: %s", line)
        raise
    return path.read_text().strip()


def _free_port(address: str) -> int:
    with socket.create_server((address, 0)) as listener:
        port: int = listener.getsockname()[1]
    return port
