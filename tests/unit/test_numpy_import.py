"""numpy_import: NumPy is imported without parts, which are there when they are used.

Each case is a process of its own, as a worker is.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

POSTPONED = """
import sys
from mms_handler import numpy_import
numpy_import.postpone()
import numpy as np

def imported():
    return [name for name in ("fft._pocketfft", "ma.core", "polynomial.polynomial", "random.mtrand")
            if f"numpy.{name}" in sys.modules]
"""


def run(program: str) -> list[str]:
    command = [sys.executable, "-W", "error", "-c", POSTPONED + program]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_request_of_arrays_needs_none():
    program = """
a = np.frombuffer(np.ones(3, np.float32).tobytes(), np.float32).reshape(3, 1)
assert np.isfinite(a).all() and np.concatenate([a, a]).astype(np.float64).sum() == 6
print(imported(), numpy_import.random())
"""
    assert run(program) == ["[] None"]


@pytest.mark.parametrize(
    "use",
    [
        "np.random.RandomState(3).rand()",
        "__import__('numpy.random').random.RandomState(3).rand()",
        "__import__('numpy.random.mtrand').random.RandomState(3).rand()",
        "pickle.loads(pickle.dumps(np.random.RandomState(3))).rand()",
        "vars(__import__('numpy.random', fromlist=['x']).mtrand)['RandomState'](3).rand()",
    ],
)
def test_a_part_is_imported_when_it_is_used(use):
    """Numbers are those of NumPy 1.17 and later for this seed."""
    program = f"""
import pickle
print({use}, imported())
assert np.random is sys.modules["numpy.random"] is numpy_import.random()
"""
    assert run(program) == ["0.5507979025745755 ['random.mtrand']"]


def test_from_a_part():
    program = """
from numpy.random import default_rng
from numpy.polynomial import Polynomial
from numpy import fft, ma
print(Polynomial([1, 2])(3), abs(fft.fft([3])[0]), ma.masked_less([1, 2], 2).sum())
"""
    assert run(program) == ["7.0 3.0 2"]


def test_all_parts_can_be_imported():
    """As a script finds them that does not know of this."""
    program = """
numpy_import.finish()
print(imported())
for name in ("fft", "ma", "polynomial", "random"):
    module = getattr(np, name)
    assert type(module) is type(sys) and module is sys.modules[f"numpy.{name}"]
numpy_import.finish()
"""
    everything = ["fft._pocketfft", "ma.core", "polynomial.polynomial", "random.mtrand"]
    assert run(program) == [str(everything)]


def test_threads_may_use_a_part_first_together():
    program = """
import threading
values, barrier = [], threading.Barrier(8)
def use():
    barrier.wait()
    values.append(np.random.RandomState(3).rand())
threads = [threading.Thread(target=use) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(len(values), set(values))
"""
    assert run(program) == ["8 {0.5507979025745755}"]


def test_a_numpy_that_is_there_stays():
    program = "import numpy as np, sys\n" + POSTPONED + "print(len(imported()))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "4\n"
