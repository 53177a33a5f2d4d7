"""sizing: what a machine or a container has, and what is started there."""

from __future__ import annotations

import os
import subprocess
import sys
from types import SimpleNamespace

import psutil
import pytest

from mms_handler.errors import ServerError
from mms_handler.server import machine, sizing
from mms_handler.server.machine import Machine
from mms_handler.settings import Settings

MB = 2**20
GB = 2**30


@pytest.fixture
def tree(tmp_path):
    """Builds a root with 8 cores and 16 GB, of which 12 are free, and these files besides."""

    def build(**files: str):
        kept = {
            "proc/meminfo": "MemTotal: 16777216 kB\nMemFree: 1 kB\nMemAvailable: 12582912 kB\n",
            "proc/self/status": "Name:\tpython\nCpus_allowed_list:\t0-3,8-11\n",
            "proc/self/cgroup": "0::/\n",
            **files,
        }
        for name, text in kept.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
        return tmp_path

    return build


# --- what there is ---


def test_a_machine_of_our_own(tree):
    """The cores that this process may run on, and the machine's memory."""
    assert machine.this_machine(tree()) == Machine(8, 16 * GB)
    assert machine.available_bytes(tree()) == 12 * GB


def test_one_core(tree):
    """An affinity is a limit."""
    root = tree(**{"proc/self/status": "Cpus_allowed_list:\t5\n"})
    assert machine.this_machine(root).cpus == 1


def test_a_group_of_version_2(tree):
    """A quota and a limit are what the container has; usage leaves out pages that can go."""
    group = "sys/fs/cgroup/box"
    root = tree(
        **{
            "proc/self/cgroup": "0::/box\n",
            f"{group}/cpu.max": "150000 100000\n",
            f"{group}/memory.max": f"{2 * GB}\n",
            f"{group}/memory.current": f"{GB}\n",
            f"{group}/memory.stat": f"anon {600 * MB}\ninactive_file {300 * MB}\nfile 1\n",
        }
    )
    assert machine.this_machine(root) == Machine(1.5, 2 * GB)
    assert machine.available_bytes(root) == 1324 * MB


def test_a_group_without_limits(tree):
    """Version 2 says max for none."""
    root = tree(
        **{
            "sys/fs/cgroup/cpu.max": "max 100000\n",
            "sys/fs/cgroup/memory.max": "max\n",
            "sys/fs/cgroup/memory.current": f"{GB}\n",
        }
    )
    assert machine.this_machine(root) == Machine(8, 16 * GB)
    assert machine.available_bytes(root) == 12 * GB


def test_the_groups_around_ours_count(tree):
    """The least of all limits from the group up to the top."""
    root = tree(
        **{
            "proc/self/cgroup": "0::/pod/box\n",
            "sys/fs/cgroup/pod/cpu.max": "200000 100000\n",
            "sys/fs/cgroup/pod/memory.max": f"{GB}\n",
            "sys/fs/cgroup/pod/memory.current": f"{GB // 2}\n",
            "sys/fs/cgroup/pod/box/cpu.max": "400000 100000\n",
            "sys/fs/cgroup/pod/box/memory.max": f"{3 * GB}\n",
            "sys/fs/cgroup/pod/box/memory.current": f"{GB // 4}\n",
        }
    )
    assert machine.this_machine(root) == Machine(2, GB)
    assert machine.available_bytes(root) == GB // 2


def test_a_group_of_version_1(tree):
    """Each controller has a folder; the container's own group is at its top."""
    root = tree(
        **{
            "proc/self/cgroup": "4:memory:/docker/77\n3:cpu,cpuacct:/docker/77\n1:name=systemd:/\n",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "50000\n",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{4 * GB}\n",
            "sys/fs/cgroup/memory/memory.usage_in_bytes": f"{3 * GB}\n",
            "sys/fs/cgroup/memory/memory.stat": f"inactive_file 5\ntotal_inactive_file {GB}\n",
        }
    )
    assert machine.this_machine(root) == Machine(0.5, 4 * GB)
    assert machine.available_bytes(root) == 2 * GB


def test_version_1_without_limits(tree):
    """Version 1 says -1, and a number larger than any memory."""
    root = tree(
        **{
            "proc/self/cgroup": "4:memory:/\n3:cpu:/\n",
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
            "sys/fs/cgroup/memory/memory.usage_in_bytes": f"{3 * GB}\n",
        }
    )
    assert machine.this_machine(root) == Machine(8, 16 * GB)
    assert machine.available_bytes(root) == 12 * GB


def test_a_full_group_has_nothing(tree):
    """More used than allowed is none left, not less than none."""
    root = tree(
        **{
            "sys/fs/cgroup/memory.max": f"{GB}\n",
            "sys/fs/cgroup/memory.current": f"{GB + 5}\n",
        }
    )
    assert machine.available_bytes(root) == 0


def test_no_proc_is_an_error(tmp_path):
    """Without /proc/meminfo nothing can be planned."""
    with pytest.raises(ServerError, match="meminfo does not say MemTotal"):
        machine.this_machine(tmp_path)


def test_this_machine():
    """Here too: some cores and some memory, of which some is free."""
    found = machine.this_machine()
    total = psutil.virtual_memory().total
    assert 0 < found.cpus <= len(os.sched_getaffinity(0))
    assert 100 * MB < machine.available_bytes() <= found.memory_bytes <= total


# --- what processes use ---


def test_shared_memory_counts_once(tree):
    """A process's share where it can be read, else all it has; one that is gone has nothing."""
    root = tree(
        **{
            "proc/11/smaps_rollup": "00400000-7fff [rollup]\nRss: 200000 kB\nPss: 150000 kB\n",
            "proc/11/status": "VmRSS: 200000 kB\n",
            "proc/12/status": "VmRSS:\t 100 kB\n",
        }
    )
    processes = [SimpleNamespace(pid=pid) for pid in (11, 12, 13)]
    assert machine.used_bytes(processes[:1], root) == 150_000 * 1024
    assert machine.used_bytes(processes, root) == 150_100 * 1024


def test_a_real_process_is_measured():
    """50 MB that a process holds are found."""
    source = "import sys; held = bytearray(50 * 2**20); print(1, flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", source]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"1\n"
        assert 50 * MB < machine.used_bytes([psutil.Process(process.pid)]) < 100 * MB


# --- the plan ---

SMALL = 1000  # bytes of artifacts
RESNET = 45 * MB


@pytest.mark.parametrize(
    ("cpus", "memory_bytes", "models", "workers", "threads"),
    [
        pytest.param(4, 8 * GB, [SMALL], 4, 1, id="a worker for each core"),
        pytest.param(1, 4 * GB, [SMALL], 1, 1, id="one core"),
        pytest.param(0.25, 4 * GB, [SMALL], 1, 1, id="a quarter of a core"),
        pytest.param(2.9, 4 * GB, [SMALL], 2, 1, id="nearly three cores"),
        pytest.param(4, 8 * GB, [SMALL, SMALL], 2, 1, id="two models share the cores"),
        pytest.param(2, 8 * GB, [SMALL] * 3, 1, 1, id="more models than cores"),
        pytest.param(8, 2 * GB, [SMALL], 6, 1, id="memory for six"),
        pytest.param(8, 2 * GB, [RESNET], 3, 2, id="the cores of those that do not fit"),
        pytest.param(8, 3 * GB, [RESNET, SMALL], 3, 1, id="a small model wants one thread"),
        pytest.param(8, 8 * GB, [], 1, 1, id="models that come later"),
    ],
)
def test_what_fits(cpus, memory_bytes, models, workers, threads):
    """Never more workers x threads than cores, never more workers than memory."""
    found = sizing.plan(Machine(cpus, memory_bytes), Settings(), models)
    assert (found.workers, found.threads, found.warnings) == (workers, threads, ())
    needed = workers * sum(map(sizing.estimate, models))
    assert found.reserved_bytes + needed <= memory_bytes


@pytest.mark.parametrize(
    ("chosen", "workers", "threads", "warnings"),
    [
        pytest.param({"workers": 2}, 2, 2, (), id="fewer workers"),
        pytest.param({"workers": 1, "threads": 1}, 1, 1, (), id="both"),
        pytest.param({"threads": 2}, 2, 2, (), id="threads"),
        pytest.param({"threads": 8}, 1, 8, ("8 threads share 4 cores",), id="too many threads"),
        pytest.param({"workers": 6}, 6, 1, ("6 threads share 4 cores",), id="too many workers"),
        pytest.param(
            {"workers": 4, "memory_bytes": GB},
            4,
            1,
            ("workers of each model that fit into the memory: 1",),
            id="too little memory",
        ),
        pytest.param({"memory_bytes": GB}, 1, 4, (), id="memory to plan with"),
    ],
)
def test_what_was_chosen_stays(chosen, workers, threads, warnings):
    """With a warning where it does not fit."""
    found = sizing.plan(Machine(4, 8 * GB), Settings(**chosen), [RESNET])
    assert (found.workers, found.threads, found.warnings) == (workers, threads, warnings)


def test_what_cannot_fit_is_an_error():
    """The numbers are said; who chooses a number of workers tries it."""
    with pytest.raises(ServerError) as caught:
        sizing.plan(Machine(2, GB), Settings(), [500 * MB])
    assert str(caught.value) == (
        "not one worker of each model fits: they need about 1,720 MB, Java and what is kept free "
        "528 MB, and there are 1,024 MB; SAGEMAKER_MODEL_SERVER_WORKERS=1 tries it all the same"
    )
    assert sizing.plan(Machine(2, GB), Settings(workers=1), [500 * MB]).warnings == (
        "workers of each model that fit into the memory: 0",
    )


@pytest.mark.parametrize(
    ("memory_bytes", "chosen", "heap_mb", "direct_mb"),
    [
        pytest.param(2 * GB, {}, 144, 144, id="eight bodies of 7 MB"),
        pytest.param(8 * GB, {}, 512, 512, id="a sixteenth of the memory"),
        pytest.param(64 * GB, {}, 928, 928, id="64 bodies are enough"),
        pytest.param(4 * GB, {"max_body_bytes": 100 * MB}, 256, 800, id="bodies of 100 MB"),
        pytest.param(GB, {"max_response_bytes": 50 * MB}, 232, 400, id="replies of 50 MB"),
        pytest.param(2 * GB, {"heap_mb": 20}, 20, 56, id="a chosen heap"),
    ],
)
def test_java_has_what_bodies_need(memory_bytes, chosen, heap_mb, direct_mb):
    """Less than eight bodies of direct memory drops connections; more than enough is wasted."""
    found = sizing.plan(Machine(2.5, memory_bytes), Settings(**chosen), [])
    assert sizing.java_options(found) == [
        f"-Xmx{heap_mb}m",
        f"-XX:MaxDirectMemorySize={direct_mb}m",
        "-XX:ActiveProcessorCount=3",
    ]


def test_a_measured_worker_tells_how_many_fit():
    """What is left beside the reserve, in whole workers."""
    assert sizing.workers_that_fit(Machine(2, 1000 * MB), 300 * MB, 200 * MB) == 3
    assert sizing.workers_that_fit(Machine(2, 1000 * MB), 300 * MB, 701 * MB) == 0
    assert sizing.workers_that_fit(Machine(2, 200 * MB), 300 * MB, 10 * MB) == 0


def test_the_plan_in_one_line():
    """What is started, for what, and what does not fit."""
    machine = Machine(1.5, 2 * GB)
    assert sizing.line(sizing.plan(machine, Settings(), [SMALL])) == (
        "workers of each model: 1, threads of each: 1, Java's heap: 144 MB, "
        "for 1.5 cores and 2,048 MB"
    )
    assert sizing.line(sizing.plan(machine, Settings(workers=9), [SMALL])) == (
        "workers of each model: 9, threads of each: 1, Java's heap: 144 MB, "
        "for 1.5 cores and 2,048 MB; warning: 9 threads share 1 cores; "
        "warning: workers of each model that fit into the memory: 6"
    )
