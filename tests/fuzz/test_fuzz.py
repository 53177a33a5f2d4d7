"""Every target's kept inputs, and some hundred mutations; ``make fuzz`` runs a million."""

from __future__ import annotations

import logging
import os

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
