"""told: the lines of the file that the plug-in reads."""

from __future__ import annotations

import threading

import pytest

from mms_handler import worker_files
from mms_handler.server.mms_models import Serving
from mms_handler.server.registry import Model
from mms_handler.server.told import Told
from mms_handler.settings import Settings


def model(name, version):
    serving = Serving.by_default(Settings())
    return Model(name, version, "url", serving, 1, None, threading.Lock())


@pytest.fixture
def texts():
    """What was told, one after the other."""
    return []


@pytest.fixture
def told(texts, tmp_path):
    return Told(texts.append, lambda name: tmp_path / name)


def test_deaths_and_loads(told, texts, tmp_path):
    """By what clients call models; when something has changed, and not of models that are gone."""
    (tmp_path / "iris~2").mkdir()
    worker_files.write_load_times(tmp_path / "iris~2", {"mxnet": 1.5, "model_fn": 0.25})
    models = {"iris": model("iris", "1"), "iris~2": model("iris", "2")}
    for deaths in ({}, {"iris": {"exit": 1, "SIGKILL": 2}, "gone": {"exit": 1}}):
        told.tell(models, deaths)
        told.tell(models, deaths)
    told.tell({}, {})
    loads = "model_load_seconds\tiris\t2\tmxnet\t1.5\nmodel_load_seconds\tiris\t2\tmodel_fn\t0.25\n"
    died = "worker_deaths_total\tiris\t1\tSIGKILL\t2\nworker_deaths_total\tiris\t1\texit\t1\n"
    assert texts == [loads, died + loads, ""]


def test_a_model_that_is_loaded_again(told, texts, tmp_path):
    """Has new times."""
    (tmp_path / "a").mkdir()
    for seconds in (1.0, 2.0):
        worker_files.write_load_times(tmp_path / "a", {"model_fn": seconds})
        told.tell({"a": model("a", "1")}, {})
    assert [text.split("\t")[-1] for text in texts] == ["1.0\n", "2.0\n"]


def test_a_full_disk(tmp_path, caplog):
    """Costs some metrics, and is tried again."""
    full = [True]
    texts = []

    def tell(text):
        if full[0]:
            raise OSError("No space left on device")
        texts.append(text)

    told = Told(tell, lambda name: tmp_path / name)
    models, deaths = {"a": model("a", "1")}, {"a": {"exit": 1}}
    told.tell(models, deaths)
    assert "/metrics lacks what has just happened: No space left" in caplog.text
    full[0] = False
    told.tell(models, deaths)
    assert texts == ["worker_deaths_total\ta\t1\texit\t1\n"]
