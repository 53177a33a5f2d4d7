"""Every target's kept inputs, and some hundred mutations; ``make fuzz`` runs a million."""

from __future__ import annotations

import importlib.util
import logging
import os
from pathlib import Path

import fuzz_engine
import fuzz_properties
import fuzz_targets
import pytest

NAMES = [name for name in fuzz_targets.names() if name not in fuzz_targets.NEED_SERVER]


@pytest.fixture(autouse=True)
def restored_log():
    """Some targets turn the log off."""
    cwd = os.getcwd()
    yield
    logging.disable(logging.NOTSET)
    os.chdir(cwd)


@pytest.mark.parametrize("name", NAMES)
def test_kept_inputs(name):
    """No input that is kept, most of which failed once, breaks a property."""
    target = fuzz_targets.load(name)
    for data in [*target.seeds(), *fuzz_targets.kept(name)]:
        failure = fuzz_engine.attempt(target, data)
        assert failure is None, f"{data[:500]!r}: {failure.exc!r}"


@pytest.mark.parametrize("name", NAMES)
def test_some_seconds(name):
    """Mutations of the kept inputs, the same ones in each run, break no property."""
    result = fuzz_engine.run(fuzz_targets.load(name), limit=400, seconds=2)
    failure = result.failure
    assert failure is None, f"{failure.data[:500]!r}: {failure.exc!r}"


@pytest.mark.parametrize("name", ["arrays", "numbers"])
def test_properties(name):
    """What hypothesis builds is read as it was written."""
    getattr(fuzz_properties, name)()


CRASH = """\
#2	INITED exec/s: 0 rss: 40Mb
Fatal Python error: Segmentation fault

Current thread 0x00007f4332e16b80 (most recent call first):
  File "/python/ctypes/__init__.py", line 519 in string_at
  File "/fuzz.py", line 8 in run
==27870== ERROR: libFuzzer: deadly signal
SUMMARY: libFuzzer: deadly signal
"""


def test_a_crash_of_native_code_has_a_place():
    """Python's, since libFuzzer only says that there was a deadly signal."""
    spec = importlib.util.spec_from_file_location(
        "fuzz_main", Path(__file__).parent / "__main__.py"
    )
    main = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(main)
    assert main._reason(CRASH) == "Fatal Python error: Segmentation fault"
    assert main._trace(CRASH).splitlines()[-1] == '  File "/fuzz.py", line 8 in run'
    assert (
        main._reason("==1== ERROR: libFuzzer: deadly signal") == "ERROR: libFuzzer: deadly signal"
    )
