"""A parameter server of two hosts on this machine: real MXNet processes, and hosts that die."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from running_mms import wait_for

from mms_handler.training import cluster

# What `mms-handler train` does on a host, in short.
HOST = """\
import json, os, signal, subprocess, sys, time
from pathlib import Path
from mms_handler import processes
from mms_handler.errors import TrainingError
from mms_handler.training import cluster

host, port, limit_s, *command = sys.argv[1:]
hosts = ["algo-1", "algo-2"]
signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(143))
try:
    with cluster.joined(hosts, host, addresses=dict.fromkeys(hosts, "127.0.0.1"), env=os.environ,
                        port=int(port), join_s=float(limit_s), lost_s=4) as member:
        env = {**os.environ, **member.variables}
        with processes.group(command, env=env, cwd=Path.cwd()) as worker:
            while worker.poll() is None:
                if member.lost():
                    raise TrainingError(member.lost())
                time.sleep(0.05)
        if worker.returncode:
            raise TrainingError(f"its worker ended with {worker.returncode}")
        member.finished()
except TrainingError as exc:
    sys.exit(f"failed: {exc}")
"""

SYNC = """\
import json, sys
import mxnet as mx
kv = mx.kv.create("dist_sync")
kv.init("sum", mx.nd.zeros(3))
kv.push("sum", mx.nd.ones(3) * 10 ** kv.rank)
out = mx.nd.zeros(3)
kv.pull("sum", out=out)
out.wait_to_read()  # else the optimizer that follows may take what the other pushed
# A Module whose only weight goes down by each host's share of the gradient.
symbol = mx.sym.LinearRegressionOutput(
    mx.sym.FullyConnected(mx.sym.var("data"), num_hidden=1, no_bias=True, name="fc"),
    mx.sym.var("label"))
module = mx.mod.Module(symbol, label_names=["label"])
data = mx.io.NDArrayIter(mx.nd.ones((4, 1)), mx.nd.ones(4) * kv.rank * 2, 4, label_name="label")
module.fit(data, num_epoch=30, kvstore=kv, initializer=mx.init.Zero(), optimizer="sgd",
           optimizer_params={"learning_rate": 0.5}, eval_metric="mse")
weight = module.get_params()[0]["fc_weight"].asscalar()
print(json.dumps({"rank": kv.rank, "workers": kv.num_workers, "type": kv.type,
                  "sum": out.asnumpy().tolist(), "weight": float(weight)}))
"""

ASYNC = """\
import json
import mxnet as mx
kv = mx.kv.create("dist_async")
kv.set_optimizer(mx.optimizer.Test())  # adds what is pushed
kv.init("sum", mx.nd.zeros(3))
kv.push("sum", mx.nd.ones(3) * 10 ** kv.rank)
mx.nd.waitall()
kv._barrier()
out = mx.nd.zeros(3)
kv.pull("sum", out=out)
print(json.dumps({"rank": kv.rank, "workers": kv.num_workers, "type": kv.type,
                  "sum": out.asnumpy().tolist()}))
"""

# One round together, and then rounds for ever.
ENDLESS = """\
import os, sys
import mxnet as mx
kv = mx.kv.create("dist_sync")
kv.init("sum", mx.nd.zeros(3))
out = mx.nd.zeros(3)
while True:
    kv.push("sum", mx.nd.ones(3))
    kv.pull("sum", out=out)
    out.wait_to_read()
    if not os.path.exists(ready := f"worker-{os.environ['HOST']}"):
        with open(ready + "~", "w") as file:
            file.write(str(os.getpid()))
        os.rename(ready + "~", ready)
"""


class Host:
    """One host, as a process with its helpers and its worker."""

    def __init__(self, folder: Path, host: str, port: int, script: str, limit_s: float = 30):
        command = [sys.executable, "-c", HOST, host, str(port), str(limit_s)]
        self.process = subprocess.Popen(
            [*command, sys.executable, "-c", script],
            env={**os.environ, "HOST": host},
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._ready = folder / f"worker-{host}"

    def worker(self) -> int:
        """The worker's process, when it has had a round with the others."""
        wait_for(self._ready.exists, 30)
        return int(self._ready.read_text())

    def helper(self, role: str) -> int:
        """The process of this host that has that role."""
        children = psutil.Process(self.process.pid).children()
        (found,) = [one.pid for one in children if one.environ().get("DMLC_ROLE") == role]
        return found

    def end(self, within_s: float = 30):
        """Exit code, standard output, the last line of standard error."""
        out, err = self.process.communicate(timeout=within_s)
        return self.process.returncode, out, (err.strip().splitlines() or [""])[-1]


@pytest.fixture
def start(tmp_path):
    """Starts a host; afterwards none of its processes may be left, nor any of theirs."""
    port, hosts = cluster.local_port(), []

    def host(name: str, script: str, **limits: float) -> Host:
        hosts.append(Host(tmp_path, name, port, script, **limits))
        return hosts[-1]

    yield host
    for one in hosts:
        one.process.kill()  # ended already, unless the test failed
        one.process.communicate()
    wait_for(lambda: not of(port), 10)


def of(port: int) -> list[int]:
    """Processes that live and belong to the cluster at ``port``."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.status() == psutil.STATUS_ZOMBIE:
                continue
            if process.environ().get("DMLC_PS_ROOT_PORT") == str(port):
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


def test_two_hosts_in_step(start):
    """dist_sync: both workers' values are in the sum, and both hosts' data in the weight."""
    ends = [host.end(60) for host in (start("algo-1", SYNC), start("algo-2", SYNC))]
    assert [code for code, _, _ in ends] == [0, 0], ends
    said = [json.loads(out.splitlines()[-1]) for _, out, _ in ends]
    assert {one["rank"] for one in said} == {0, 1}
    for one in said:
        assert (one["workers"], one["type"]) == (2, "dist_sync")
        assert one["sum"] == [11, 11, 11]
        assert one["weight"] == pytest.approx(1, abs=0.01)  # between 0 and 2, the hosts' own


def test_two_hosts_out_of_step(start):
    """dist_async: the server adds what each worker pushes, as it comes."""
    ends = [host.end(60) for host in (start("algo-1", ASYNC), start("algo-2", ASYNC))]
    assert [code for code, _, _ in ends] == [0, 0], ends
    said = [json.loads(out.splitlines()[-1]) for _, out, _ in ends]
    assert {one["rank"] for one in said} == {0, 1}
    for one in said:
        assert (one["workers"], one["type"]) == (2, "dist_async")
        assert one["sum"] == [11, 11, 11]


def test_a_worker_is_killed(start):
    """The other host, whose worker waits for ever, ends with the name of the lost one."""
    hosts = {name: start(name, ENDLESS) for name in ("algo-1", "algo-2")}
    hosts["algo-1"].worker()
    os.kill(hosts["algo-2"].worker(), signal.SIGKILL)
    reason = "host algo-2 was lost: its worker ended with -9"
    assert hosts["algo-1"].end(10) == (1, "", f"failed: {reason}")
    assert hosts["algo-2"].end(10) == (1, "", "failed: its worker ended with -9")


def test_a_server_is_killed(start):
    """Without it no worker can go on, though all of them live."""
    hosts = {name: start(name, ENDLESS) for name in ("algo-1", "algo-2")}
    hosts["algo-1"].worker()
    os.kill(hosts["algo-2"].helper("server"), signal.SIGKILL)
    reason = "host algo-2 was lost: its server ended with -9"
    for host in hosts.values():
        assert host.end(15) == (1, "", f"failed: {reason}")


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_the_scheduler_host_is_gone(start, how):
    """Killed or standing still, it is missed by the other; killed, it leaves no process."""
    hosts = {name: start(name, ENDLESS) for name in ("algo-1", "algo-2")}
    hosts["algo-1"].worker()
    hosts["algo-2"].worker()
    hosts["algo-1"].process.send_signal(how)
    why = "its connection closed" if how == signal.SIGKILL else "it was silent for 4 s"
    assert hosts["algo-2"].end(15) == (1, "", f"failed: host algo-1 was lost: {why}")
    hosts["algo-1"].process.kill()
    assert hosts["algo-1"].end(10)[0] == -signal.SIGKILL


def test_a_host_never_comes(start):
    """With the real scheduler waiting for it, the job ends in time and names it."""
    host = start("algo-1", ENDLESS, limit_s=2)
    reason = "host algo-2 was lost: not here within 2 s"
    assert host.end(15) == (1, "", f"failed: {reason}")


def test_a_host_is_stopped(start):
    """SIGTERM to one host ends the job on both."""
    hosts = {name: start(name, ENDLESS) for name in ("algo-1", "algo-2")}
    hosts["algo-1"].worker()
    hosts["algo-2"].process.terminate()
    assert hosts["algo-2"].end(10)[0] == 143
    assert hosts["algo-1"].end(10) == (1, "", "failed: host algo-2 was lost: 143")
