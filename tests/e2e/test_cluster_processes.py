"""A parameter server of two hosts on this machine, with real MXNet processes; hosts die."""

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

# A short form of what `mms-handler train` does on a host.
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
out.wait_to_read()  # else the optimizer below may take what the other host pushed
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

# Twenty synchronous rounds a second, without end; a file tells the worker's pid after the first.
ENDLESS = """\
import os, time
from mms_handler import mxnet_import
with mxnet_import.fast_import():
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
    time.sleep(0.05)
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
        """The worker's pid, once it has had a round with the other host."""
        wait_for(self._ready.exists, 30)
        return int(self._ready.read_text())

    def helper(self, role: str) -> int:
        """The pid of this host's process with the role."""
        children = psutil.Process(self.process.pid).children()
        (pid,) = [child.pid for child in children if child.environ().get("DMLC_ROLE") == role]
        return pid

    def end(self, within_s: float = 30):
        """Wait; returns exit code, standard output and the last line of standard error."""
        out, err = self.process.communicate(timeout=within_s)
        return self.process.returncode, out, (err.strip().splitlines() or [""])[-1]


@pytest.fixture
def start(tmp_path):
    """Start a host.  Afterwards no process of the cluster may be left."""
    port, hosts = cluster.local_port(), []

    def host(name: str, script: str, **limits: float) -> Host:
        hosts.append(Host(tmp_path, name, port, script, **limits))
        return hosts[-1]

    yield host
    for started in hosts:
        started.process.kill()  # has ended already, unless the test failed
        started.process.communicate()
    wait_for(lambda: not pids_of(port), 10)


def pids_of(port: int) -> list[int]:
    """The living processes of the cluster at ``port``."""
    pids = []
    for process in psutil.process_iter():
        try:
            if process.status() == psutil.STATUS_ZOMBIE:
                continue
            if process.environ().get("DMLC_PS_ROOT_PORT") == str(port):
                pids.append(process.pid)
        except psutil.Error:
            continue
    return pids


def test_two_hosts_in_step(start):
    """dist_sync: the sum has both workers' values, and the weight comes from both hosts' data."""
    ends = [host.end(60) for host in (start("algo-1", SYNC), start("algo-2", SYNC))]
    assert [code for code, _, _ in ends] == [0, 0], ends
    results = [json.loads(out.splitlines()[-1]) for _, out, _ in ends]
    assert {result["rank"] for result in results} == {0, 1}
    for result in results:
        assert (result["workers"], result["type"]) == (2, "dist_sync")
        assert result["sum"] == [11, 11, 11]
        assert result["weight"] == pytest.approx(1, abs=0.01)  # the hosts' data have 0 and 2


def test_two_hosts_out_of_step(start):
    """dist_async: the server adds each worker's value as it comes."""
    ends = [host.end(60) for host in (start("algo-1", ASYNC), start("algo-2", ASYNC))]
    assert [code for code, _, _ in ends] == [0, 0], ends
    results = [json.loads(out.splitlines()[-1]) for _, out, _ in ends]
    assert {result["rank"] for result in results} == {0, 1}
    for result in results:
        assert (result["workers"], result["type"]) == (2, "dist_async")
        assert result["sum"] == [11, 11, 11]


def test_a_worker_is_killed(start):
    """The other host, whose worker waits for ever, ends and names the lost one."""
    hosts = {name: start(name, ENDLESS) for name in ("algo-1", "algo-2")}
    hosts["algo-1"].worker()
    os.kill(hosts["algo-2"].worker(), signal.SIGKILL)
    reason = "host algo-2 was lost: its worker ended with -9"
    assert hosts["algo-1"].end(10) == (1, "", f"failed: {reason}")
    assert hosts["algo-2"].end(10) == (1, "", "failed: its worker ended with -9")


def test_a_server_is_killed(start):
    """Without it no worker can go on, although all of them live."""
    hosts = {name: start(name, ENDLESS) for name in ("algo-1", "algo-2")}
    hosts["algo-1"].worker()
    os.kill(hosts["algo-2"].helper("server"), signal.SIGKILL)
    reason = "host algo-2 was lost: its server ended with -9"
    for host in hosts.values():
        assert host.end(15) == (1, "", f"failed: {reason}")


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_the_scheduler_host_is_gone(start, how):
    """The other host notices that it was killed or stands still; no process is left."""
    hosts = {name: start(name, ENDLESS) for name in ("algo-1", "algo-2")}
    hosts["algo-1"].worker()
    hosts["algo-2"].worker()
    hosts["algo-1"].process.send_signal(how)
    reason = "its connection closed" if how == signal.SIGKILL else "it was silent for 4 s"
    assert hosts["algo-2"].end(15) == (1, "", f"failed: host algo-1 was lost: {reason}")
    hosts["algo-1"].process.kill()
    assert hosts["algo-1"].end(10)[0] == -signal.SIGKILL


def test_a_host_never_comes(start):
    """While the real scheduler waits for it, the job ends at the limit and names it."""
    host = start("algo-1", ENDLESS, limit_s=2)
    reason = "host algo-2 was lost: it did not join within 2 s"
    assert host.end(15) == (1, "", f"failed: {reason}")


def test_a_host_is_stopped(start):
    """SIGTERM to one host ends the job on both."""
    hosts = {name: start(name, ENDLESS) for name in ("algo-1", "algo-2")}
    hosts["algo-1"].worker()
    hosts["algo-2"].process.terminate()
    assert hosts["algo-2"].end(10)[0] == 143
    assert hosts["algo-1"].end(10) == (1, "", "failed: host algo-2 was lost: SystemExit: 143")
