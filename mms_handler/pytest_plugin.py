"""A plug-in for pytest: the fixture ``mms_model``, a loaded model that answers as over HTTP.

A module of tests asks for it, and says what is loaded::

    pytest_plugins = ["mms_handler.pytest_plugin"]

    @pytest.fixture
    def mms_model_path():
        return "trained"

    def test_a_row(mms_model):
        assert mms_model.answer("[[1, 2]]").status == 200

It is not registered with pytest: nothing changes for a project whose tests do not name it.
"""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from mms_handler.api import Model


#: Warnings of mxnet 1.9.1, at its import and when it makes or reads arrays.
_WARNINGS = (
    "ignore:.*distutils Version classes are deprecated.*:DeprecationWarning",
    "ignore:.*np.bool.*:DeprecationWarning",
    "ignore:In accordance with NEP 32.*:DeprecationWarning",
    "ignore:Please .* `csr_matrix`.*:DeprecationWarning",
)


def pytest_configure(config: pytest.Config) -> None:
    """Leave mxnet's own warnings out of the summary: they are not the project's to mend."""
    for line in _WARNINGS:
        config.addinivalue_line("filterwarnings", line)


@pytest.fixture
def mms_model_path() -> str | os.PathLike[str]:
    """The model: a folder, or a ``.mar``.  A module of tests defines a fixture of this name."""
    return pytest.fail("define a fixture mms_model_path that returns a model's folder, or a .mar")


@pytest.fixture
def mms_model_script() -> str | os.PathLike[str] | None:
    """The script to use with it, where it lies; None: the model's own.  A module may define it."""
    return None


@pytest.fixture
def mms_model(
    mms_model_path: str | os.PathLike[str], mms_model_script: str | os.PathLike[str] | None
) -> Model:
    """The model, loaded in this process, once for all tests that ask for it.

    ``mms_model.answer(body, content_type, accept)`` has ``status``, ``headers`` and ``body`` as a
    client of the server gets them.
    """
    if not Path(mms_model_path).exists():
        pytest.fail(
            f"there is no model {mms_model_path}; train it before (mms-handler train), or return "
            "another path from the fixture mms_model_path",
            pytrace=False,
        )
    script = os.path.abspath(mms_model_script) if mms_model_script else None
    return _load(os.path.abspath(mms_model_path), script)


@functools.lru_cache(maxsize=None)
def _load(path: str, script: str | None) -> Model:
    from mms_handler import api

    return api.load(path, script=script)
