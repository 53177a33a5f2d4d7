"""machine, sizing: what a machine or a container has, and what is started there."""

from __future__ import annotations

import contextlib
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
    """Builds a root with 8 cores and 16 GB, 12 of them free, and with more files."""

    def build(**files: str):
        texts = {
            "proc/meminfo": "MemTotal: 16777216 kB\nMemFree: 1 kB\nMemAvailable: 12582912 kB\n",
            "proc/self/status": "Name:\tpython\nCpus_allowed_list:\t0-3,8-11\n",
            "proc/self/cgroup": "0::/\n",
            **files,
        }
        for name, text in texts.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
        return tmp_path

    return build


# --- the machine ---


def test_a_machine_without_groups(tree):
    """The cores that this process may run on, and the machine's memory."""
    assert machine.this_machine(tree()) == Machine(8, 16 * GB)
    assert machine.available_bytes(tree()) == 12 * GB


def test_one_core(tree):
    """The affinity limits the cores."""
    root = tree(**{"proc/self/status": "Cpus_allowed_list:\t5\n"})
    assert machine.this_machine(root).cpus == 1


def test_unknown_cores(tree, monkeypatch):
    """All of the machine's then, or one."""
    root = tree(**{"proc/self/status": "Name:\tpython\n"})
    for count, cores in ((6, 6), (None, 1)):
        monkeypatch.setattr(os, "cpu_count", lambda count=count: count)
        assert machine.this_machine(root).cpus == cores


def test_a_group_of_version_2(tree):
    """The quota and the limit count; pages that can be reclaimed do not count as used."""
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
    """In version 2, max means no limit."""
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
    """The lowest limit of the group and of all groups around it counts."""
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


def test_a_group_whose_name_has_colons(tree):
    """As containerd's have."""
    root = tree(
        **{
            "proc/self/cgroup": "0::/system.slice:cri-containerd:1f\n",
            "sys/fs/cgroup/system.slice:cri-containerd:1f/cpu.max": "200000 100000\n",
        }
    )
    assert machine.this_machine(root).cpus == 2


def test_a_group_outside_ours(tree):
    """Its path begins with dots where a container has a namespace of groups for itself."""
    root = tree(
        **{
            "proc/self/cgroup": "0::/../../box\n",
            "sys/fs/cgroup/box/cpu.max": "200000 100000\n",
            "sys/cpu.max": "100000 100000\n",
        }
    )
    assert machine.this_machine(root).cpus == 2


def test_a_group_of_version_1(tree):
    """Each controller has a folder, with the container's own group at its top."""
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


def test_a_group_that_says_nothing_of_its_pages(tree):
    """All that it uses counts then."""
    root = tree(
        **{
            "sys/fs/cgroup/memory.max": f"{2 * GB}\n",
            "sys/fs/cgroup/memory.current": f"{GB}\n",
            "sys/fs/cgroup/memory.stat": "anon 7\n",
        }
    )
    assert machine.available_bytes(root) == GB


def test_a_group_with_more_pages_than_it_uses(tree):
    """The two are read one after the other; no more than the limit is unused."""
    root = tree(
        **{
            "sys/fs/cgroup/memory.max": f"{2 * GB}\n",
            "sys/fs/cgroup/memory.current": f"{GB}\n",
            "sys/fs/cgroup/memory.stat": f"inactive_file {GB + 4096}\n",
        }
    )
    assert machine.available_bytes(root) == 2 * GB


def test_version_1_without_limits(tree):
    """In version 1, -1 and a number larger than any memory mean no limit."""
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


def test_a_full_group(tree):
    """If more is used than allowed, 0 is left, not a negative number."""
    root = tree(
        **{
            "sys/fs/cgroup/memory.max": f"{GB}\n",
            "sys/fs/cgroup/memory.current": f"{GB + 5}\n",
        }
    )
    assert machine.available_bytes(root) == 0


def test_no_proc_is_an_error(tmp_path):
    """Without /proc/meminfo no memory can be planned."""
    with pytest.raises(
        ServerError, match="meminfo has no line MemTotal, so memory cannot be planned"
    ):
        machine.this_machine(tmp_path)


def test_this_machine():
    """The machine of the tests has cores, memory and free memory."""
    here = machine.this_machine()
    total = psutil.virtual_memory().total
    assert 0 < here.cpus <= len(os.sched_getaffinity(0))
    assert 100 * MB < machine.available_bytes() <= here.memory_bytes <= total


# --- processes ---


def status(file_kb: int, anonymous_kb: int) -> str:
    """What /proc/PID/status says of a process's memory."""
    return (
        f"VmRSS:\t {file_kb + anonymous_kb} kB\nRssAnon:\t {anonymous_kb} kB\n"
        f"RssFile:\t {file_kb} kB\nRssShmem:\t 0 kB\n"
    )


def rollup(share_kb: int, anonymous_kb: int) -> str:
    """What /proc/PID/smaps_rollup says."""
    return f"[rollup]\nPss: {share_kb} kB\nPss_Anon: {anonymous_kb} kB\nPss_Shmem: 7 kB\n"


def test_shared_memory_counts_once(tree):
    """A process's share of what was forked counts, and each program's files once."""
    root = tree(
        **{
            "proc/11/smaps_rollup": rollup(150_000, 60_000),
            "proc/11/status": status(80_000, 90_000),
            "proc/12/smaps_rollup": rollup(150_000, 50_000),
            "proc/12/status": status(90_000, 90_000),
            "proc/13/status": status(20_000, 30_000),
            "proc/14/status": "VmRSS:\t 100 kB\n",
        }
    )
    for pid, program in ((11, "python"), (12, "python"), (13, "java"), (14, "python")):
        (root / f"proc/{pid}/exe").symlink_to(f"/usr/bin/{program}")
    java_kb, unknown_kb, gone_kb = 20_000 + 30_000, 100, 0
    processes = [SimpleNamespace(pid=pid) for pid in (11, 12, 13, 14, 15)]
    assert machine.used_bytes(processes[:1], root) == (60_007 + 80_000) * 1024
    assert machine.used_bytes(processes[:2], root) == (60_007 + 50_007 + 90_000) * 1024
    assert machine.used_bytes(processes, root) == 1024 * (
        60_007 + 50_007 + 90_000 + java_kb + unknown_kb + gone_kb
    )


def test_memory_whose_parts_are_partly_unknown():
    """What a kernel does not say is nothing."""
    assert machine._process_bytes({"RssAnon": 5}, {}) == 5
    assert machine._process_bytes({"RssAnon": 5, "RssShmem": 2}, {}) == 7
    assert machine._process_bytes({"RssAnon": 9}, {"Pss_Anon": 5}) == 5
    assert machine._process_bytes({"RssAnon": 9}, {"Pss_Anon": 5, "Pss_Shmem": 2}) == 7
    assert machine._process_bytes({"VmRSS": 9}, {}) == 9
    assert machine._process_bytes({}, {}) == 0


def test_other_processes_do_not_change_what_a_process_uses():
    """A library in the memory of one process counts as much when another process has it, too."""
    source = "import numpy; print(1, flush=True); input()"
    with contextlib.ExitStack() as stack:

        def start() -> psutil.Process:
            child = subprocess.Popen(
                [sys.executable, "-c", source], stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
            stack.enter_context(child)
            stack.callback(child.kill)
            assert child.stdout.readline() == b"1\n"
            return psutil.Process(child.pid)

        process = start()
        alone = machine.used_bytes([process])
        others = [start() for _ in range(4)]
        assert machine.used_bytes([process]) == pytest.approx(alone, rel=0.02)
        assert machine.used_bytes([process, *others]) < 4 * alone


def test_what_a_fork_shares_is_not_private(tree):
    """Of 50 MB, a fork writes to 10."""
    source = """
import os, sys
data = bytearray(50 * 2**20)
child = os.fork()
if not child:
    data[: 10 * 2**20] = bytes(1) * (10 * 2**20)
    print(os.getpid(), flush=True)
sys.stdin.read()
"""
    command = [sys.executable, "-c", source]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        fork = psutil.Process(int(process.stdout.readline()))
        assert 10 * MB < machine.private_bytes(fork) < 40 * MB
    tables = "VmPTE:\t 300 kB\n"
    root = tree(**{"proc/11/status": status(80_000, 90_000) + tables})
    assert machine.private_bytes(SimpleNamespace(pid=11), root) == 90_300 * 1024
    assert machine.private_bytes(SimpleNamespace(pid=12), root) == 0


def test_a_real_process_is_measured():
    """50 MB that a process holds are counted."""
    source = "import sys; data = bytearray(50 * 2**20); print(1, flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", source]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"1\n"
        assert 50 * MB < machine.used_bytes([psutil.Process(process.pid)]) < 100 * MB


# --- the plan ---

SMALL = 1000  # bytes of artifacts
RESNET = 45 * MB


@pytest.mark.parametrize(
    ("cpus", "memory_bytes", "models_bytes", "workers", "threads"),
    [
        pytest.param(4, 8 * GB, [SMALL], 4, 1, id="a worker for each core"),
        pytest.param(1, 4 * GB, [SMALL], 1, 1, id="one core"),
        pytest.param(0.25, 4 * GB, [SMALL], 1, 1, id="a quarter of a core"),
        pytest.param(2.9, 4 * GB, [SMALL], 2, 1, id="nearly three cores"),
        pytest.param(4, 8 * GB, [SMALL, SMALL], 2, 1, id="two models share the cores"),
        pytest.param(2, 8 * GB, [SMALL] * 3, 1, 1, id="more models than cores"),
        pytest.param(8, 2 * GB, [SMALL], 4, 1, id="memory for four that are forked"),
        pytest.param(8, 2 * GB, [RESNET], 2, 4, id="threads for the cores without a worker"),
        pytest.param(8, 3 * GB, [RESNET, SMALL], 2, 1, id="one thread for a small model"),
        pytest.param(8, 8 * GB, [], 1, 1, id="models that come later"),
    ],
)
def test_what_fits(cpus, memory_bytes, models_bytes, workers, threads):
    """There are no more threads than cores, and no more workers than memory."""
    plan = sizing.plan(Machine(cpus, memory_bytes), Settings(), models_bytes)
    assert (plan.workers, plan.threads, plan.warnings) == (workers, threads, ())
    loaded_bytes = sum(map(sizing.estimate, models_bytes))
    forked_bytes = loaded_bytes - sum(models_bytes)  # once, and for each worker:
    each_bytes = 32 * MB * len(models_bytes) + sum(models_bytes)
    if threads > 1:
        forked_bytes, each_bytes = 0, loaded_bytes
    each_bytes += 249_033_000 * len(models_bytes)
    assert plan.reserved_bytes + forked_bytes + workers * each_bytes <= memory_bytes


@pytest.mark.parametrize(
    ("values", "workers"),
    [({"threads": 1}, 18), ({"threads": 1, "fork": "off"}, 6), ({"threads": 2}, 6)],
    ids=["forked", "not forked", "several threads"],
)
def test_what_forked_workers_share_counts_once(values, workers):
    """2 copies of 100 MB, and MXNet; each has 32 MB and a copy of its own, and its requests'."""
    settings = Settings(max_array_bytes=MB, max_body_bytes=MB, **values)
    assert sizing.plan(Machine(64, 4 * GB), settings, [100 * MB]).workers == workers


def test_what_requests_may_take_is_planned():
    """For each worker, arrays and what the parser keeps, or a text: 237 MB by default."""
    machine = Machine(8, 2 * GB)
    assert sizing.request_bytes(Settings()) == 3 * 52_428_000 + 14 * 6_553_500
    texts = Settings(max_body_bytes=20 * MB, max_array_bytes=20 * MB)
    assert sizing.request_bytes(texts) == 29 * 20 * MB
    large = Settings(max_body_bytes=20 * MB)
    assert sizing.request_bytes(large) == 3 * 160 * MB + 14 * 8 * MB
    each = {"fork": "off"}
    assert sizing.plan(machine, Settings(**each), [SMALL]).workers == 3
    assert sizing.plan(machine, Settings(max_body_bytes=MB, **each), [SMALL]).workers == 5
    assert sizing.plan(machine, Settings(max_array_bytes=300 * MB, **each), [SMALL]).workers == 1


def test_one_worker_is_better_than_none():
    """It starts even if the largest requests do not fit beside it, with a warning."""
    plan = sizing.plan(Machine(1, GB), Settings(max_array_bytes=100 * MB), [SMALL])
    assert plan.workers == 1
    assert plan.warnings == (
        "the largest requests may take 387 MB in each worker, which do not fit; "
        "a lower max-body-bytes refuses them",
    )


@pytest.mark.parametrize(
    ("values", "workers", "threads", "warnings"),
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
            ("workers per model that fit into the memory: 1",),
            id="too little memory",
        ),
        pytest.param(
            {"memory_bytes": GB, "max_body_bytes": 4 * MB}, 1, 4, (), id="memory to plan with"
        ),
    ],
)
def test_settings_are_kept(values, workers, threads, warnings):
    """A setting that does not fit gives a warning."""
    plan = sizing.plan(Machine(4, 8 * GB), Settings(**values), [RESNET])
    assert (plan.workers, plan.threads, plan.warnings) == (workers, threads, warnings)


def test_models_that_do_not_fit():
    """The message has the numbers; a number of workers that is set is tried anyway."""
    with pytest.raises(ServerError) as caught:
        sizing.plan(Machine(2, GB), Settings(), [500 * MB])
    assert str(caught.value) == (
        "not one worker of each model fits: they need about 1,720 MB, and Java and spare memory "
        "528 MB, of 1,024 MB in all; set SAGEMAKER_MODEL_SERVER_WORKERS=1 to try it anyway"
    )
    assert sizing.plan(Machine(2, GB), Settings(workers=1), [500 * MB]).warnings == (
        "workers per model that fit into the memory: 0",
    )


@pytest.mark.parametrize(
    ("memory_bytes", "values", "heap_mb", "direct_mb"),
    [
        pytest.param(2 * GB, {}, 144, 144, id="eight bodies of 7 MB"),
        pytest.param(8 * GB, {}, 512, 512, id="a sixteenth of the memory"),
        pytest.param(64 * GB, {}, 928, 928, id="64 bodies are enough"),
        pytest.param(4 * GB, {"max_body_bytes": 100 * MB}, 256, 800, id="bodies of 100 MB"),
        pytest.param(GB, {"max_response_bytes": 50 * MB}, 232, 400, id="replies of 50 MB"),
        pytest.param(2 * GB, {"heap_mb": 20}, 20, 56, id="a heap that is set"),
    ],
)
def test_java_has_what_bodies_need(memory_bytes, values, heap_mb, direct_mb):
    """Direct memory for fewer than eight bodies loses connections; a very large heap is waste."""
    plan = sizing.plan(Machine(2.5, memory_bytes), Settings(**values), [])
    assert sizing.java_options(plan) == [
        f"-Xmx{heap_mb}m",
        "-Xms16m",
        f"-XX:MaxDirectMemorySize={direct_mb}m",
        "-XX:ActiveProcessorCount=3",
        "-Dio.netty.allocator.numDirectArenas=1",
        "-Dio.netty.allocator.numHeapArenas=1",
        "-Dio.netty.allocator.maxOrder=7",
    ]


def test_java_starts_with_no_more_heap_than_it_may_have():
    """Java would not start: its first heap cannot be larger than its largest."""
    plan = sizing.plan(Machine(2, 2 * GB), Settings(heap_mb=12), [])
    assert sizing.java_options(plan)[:2] == ["-Xmx12m", "-Xms12m"]


def test_each_event_loop_has_a_pool_of_buffers():
    """The gate has one event loop for four processors (Gate.java)."""
    plan = sizing.plan(Machine(16, 64 * GB), Settings(), [])
    assert "-Dio.netty.allocator.numDirectArenas=4" in sizing.java_options(plan)


def test_the_plan_in_one_line():
    """The line has what is started, the machine, and warnings."""
    machine = Machine(1.5, 2 * GB)
    assert sizing.summary(sizing.plan(machine, Settings(), [SMALL])) == (
        "workers per model: 1, threads per worker: 1, Java heap: 144 MB, for 1.5 cores and 2,048 MB"
    )
    assert sizing.summary(sizing.plan(machine, Settings(workers=9), [SMALL])) == (
        "workers per model: 9, threads per worker: 1, Java heap: 144 MB, "
        "for 1.5 cores and 2,048 MB; warning: 9 threads share 1 cores; "
        "warning: workers per model that fit into the memory: 4"
    )
