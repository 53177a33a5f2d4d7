"""server.tuned: when the settings of an archive count."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from mms_handler.manifest import Tuned
from mms_handler.server.machine import Machine
from mms_handler.server.sources import Source
from mms_handler.server.tuned import settings_for
from mms_handler.settings import Settings

MACHINE = Machine(2, 8 * 2**30)
TUNED = Tuned(2, workers=1, threads=2, batch_size=8, core="off")


def source(name="iris", tuned=TUNED):
    return Source(name, Path("iris.mar"), 100, "iris.mar", tuned=tuned)


@pytest.fixture(autouse=True)
def log(caplog):
    caplog.set_level(logging.INFO)
    return caplog


def test_an_archive_that_was_tuned_decides(log):
    settings = settings_for(Settings(), [source()], MACHINE)
    assert settings == Settings(workers=1, threads=2, batch_size=8, core="off")
    assert log.messages == [
        "iris is served as it was tuned: workers 1, threads 2, batch size 8, core off"
    ]


def test_options_and_variables_override_it(monkeypatch):
    """Also a variable that has the default."""
    monkeypatch.setenv("MMS_HANDLER_CORE", "auto")
    settings = settings_for(Settings(workers=3), [source()], MACHINE)
    assert settings == Settings(workers=3, threads=2, batch_size=8)


def test_another_machine_does_without(log):
    assert settings_for(Settings(), [source()], Machine(4, 8 * 2**30)) == Settings()
    assert log.messages == [
        "iris was tuned for 2 cores, and this machine has 4: the defaults are used; mms-handler "
        "tune finds what is best here"
    ]


def test_several_models_do_without(log):
    sources = [source(), source("other", tuned=None)]
    assert settings_for(Settings(), sources, MACHINE) == Settings()
    assert log.messages == ["iris: tuned settings are left out, because there are several models"]


def test_an_archive_that_was_not_tuned(log):
    assert settings_for(Settings(), [source(tuned=None)], MACHINE) == Settings()
    assert settings_for(Settings(), [], MACHINE) == Settings()
    assert log.messages == []
