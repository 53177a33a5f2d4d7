"""memory: files' pages are given back, and the process goes on."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has /proc")

PROGRAM = """
import ctypes, json
import numpy as np
import psutil
from mms_handler.worker.mms import memory

def work():
    a = np.random.RandomState(0).rand(50, 50).astype(np.float32)
    return [float(np.linalg.norm(a @ a)), json.dumps(np.fft.fft(a[0]).real.tolist())]

def files_mb():
    info = psutil.Process().memory_info()
    return info.shared / 1e6

before = work()
mapped_mb = files_mb()
memory.trim()
memory.unmap_files()
assert files_mb() < mapped_mb / 2, (files_mb(), mapped_mb)
assert work() == before
memory.unmap_files()
assert work() == before
"""


def test_unmapped_files():
    """Their pages are read again; what the linker has written into them is kept."""
    subprocess.run([sys.executable, "-c", PROGRAM], check=True)
