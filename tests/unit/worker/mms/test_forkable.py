"""forkable and seeds: what a script does that keeps its process from being forked, and seeds.

Each case is a process of its own, as a worker is.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has /proc")

LOOK = """
import atexit, mmap, os, random, signal, socket, subprocess, sys, threading, time
import numpy as np
from mms_handler.worker.mms.forkable import State, obstacle

before = State.now()
{script}
print(obstacle(before))
"""

ANYBODY = "the script, or a library, "


def run(program: str) -> str:
    env = {**os.environ, "OMP_NUM_THREADS": "1"}  # none of NumPy's own
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    return done.stdout.rstrip("\n")


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        pytest.param("kept = np.ones(1000)", "", id="nothing"),
        pytest.param("np.random.seed(3); random.seed(3)", "", id="seeds"),
        pytest.param("open('/etc/hostname').read()", "", id="a file that is closed"),
        pytest.param("subprocess.run(['true'])", "", id="a process that has ended"),
        pytest.param("thread = threading.Thread(); thread.start(); thread.join()", "", id="ended"),
        pytest.param("null = open('/dev/null')", "", id="a device without a place"),
        pytest.param("log = open('/tmp/../dev/shm/forkable', 'a')", "", id="a log"),
        pytest.param("np.memmap(sys.executable, 'u1', 'r')", "", id="a file's pages"),
        pytest.param(
            "threading.Thread(target=time.sleep, args=(9,), daemon=True).start()",
            ANYBODY + "started 1 thread",
            id="a thread",
        ),
        pytest.param(
            "[threading.Thread(target=time.sleep, args=(9,), daemon=True).start() for _ in '12']",
            ANYBODY + "started 2 threads",
            id="threads",
        ),
        pytest.param("file = open('/etc/passwd')", ANYBODY + "keeps /etc/passwd open", id="a file"),
        pytest.param(
            "file = open('/dev/shm/forkable', 'a+')",
            ANYBODY + "keeps /dev/shm/forkable open",
            id="a file that is read, too",
        ),
        pytest.param(
            "memory = mmap.mmap(-1, 100)", ANYBODY + "has shared memory", id="shared memory"
        ),
        pytest.param(
            "child = subprocess.Popen(['sleep', '9']); atexit.register(child.kill)",
            "the script started a process",
            id="a process",
        ),
        pytest.param(
            "signal.signal(signal.SIGALRM, print); signal.alarm(9)",
            "the script set a timer",
            id="a timer",
        ),
        pytest.param(
            "kept = [random.Random()]",
            ANYBODY + "has random numbers of its own (Random)",
            id="a generator",
        ),
        pytest.param(
            "kept = {'rng': np.random.default_rng()}",
            ANYBODY + "has random numbers of its own (Generator)",
            id="a generator of NumPy",
        ),
        pytest.param(
            "kept = np.random.RandomState()",
            ANYBODY + "has random numbers of its own (RandomState)",
            id="an old generator of NumPy",
        ),
    ],
)
def test_obstacles(script, reason):
    assert run(LOOK.format(script=script)) == reason


def test_a_socket():
    assert run(LOOK.format(script="kept = socket.socket()")).startswith(ANYBODY + "keeps socket:[")


def test_what_was_there_before_is_no_obstacle():
    script = """
file = open("/etc/passwd")
kept = [mmap.mmap(-1, 100), random.Random(), np.random.default_rng()]
threading.Thread(target=time.sleep, args=(9,), daemon=True).start()
before = State.now()
"""
    assert run(LOOK.format(script=script)) == ""


LATER = """
from mms_handler import numpy_import
numpy_import.postpone()
"""


def test_a_numpy_random_that_is_imported_later():
    """As MXNet does where a twin does not hold: NumPy's own generator is no obstacle."""
    script = "np.random.rand()"
    assert run(LATER + LOOK.format(script=script)) == ""
    script = "kept = np.random.RandomState()"
    assert run(LATER + LOOK.format(script=script)).endswith("of its own (RandomState)")


def test_a_numpy_random_that_is_imported_later_differs_between_forks():
    lines = run(LATER + SEEDS.replace(", np.random.seed", "").format(script="np.random.rand()"))
    first, second = (line.split() for line in lines.splitlines())
    assert first[1] != second[1]


def test_threads_that_are_not_pythons():
    """Such as those of MXNet's default engine."""
    program = """
import threading, time
from mms_handler.worker.mms.forkable import State
threading.Thread(target=time.sleep, args=(9,), daemon=True).start()
{start}
print(State.now().native_threads())
"""
    native = "import _thread; _thread.start_new_thread(time.sleep, (9,)); time.sleep(0.1)"
    assert [run(program.format(start=start)) for start in ("", native)] == ["0", "1"]


SEEDS = """
import os, random
import numpy as np
from mms_handler.worker.mms.seeds import Seeds

original = random.seed, np.random.seed
seeds = Seeds()
seeds.watch()
{script}
seeds.keep()
assert (random.seed, np.random.seed) == original
for _ in "12":
    if not os.fork():
        seeds.renew()
        print(random.random(), np.random.rand())
        os._exit(not print(end="", flush=True))
    os.wait()
"""


@pytest.mark.parametrize(
    ("script", "same"),
    [
        pytest.param("", [False, False], id="no seed"),
        pytest.param("random.seed(7)", [True, False], id="Python's"),
        pytest.param("np.random.seed(7)", [False, True], id="NumPy's"),
        pytest.param("random.seed(a=7); np.random.seed(seed=7)", [True, True], id="by keyword"),
        pytest.param(
            "random.seed(); np.random.seed(None)", [False, False], id="none in particular"
        ),
        pytest.param("random.seed(7); random.seed()", [False, False], id="not any more"),
    ],
)
def test_seeds(script, same):
    """What the script has chosen goes on in each fork; otherwise forks differ."""
    first, second = (line.split() for line in run(SEEDS.format(script=script)).splitlines())
    assert [a == b for a, b in zip(first, second)] == same


def test_chosen_seeds_go_on_where_they_were():
    script = "random.seed(7); np.random.seed(7); random.random(); np.random.rand()"
    first, _ = run(SEEDS.format(script=script)).splitlines()
    # The second numbers after these seeds, as Python 3.8 and NumPy 1.23 and later give them.
    assert first == "0.15084917392450192 0.7799187922401146"
