"""models: MXNet is imported by the first name that needs it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from mms_handler import models

WITHOUT = """
import sys
import numpy as np
from mms_handler import models
from mms_handler.worker import loading

array = np.ones((2, 3), np.float32)
assert models.is_array(array) and not models.is_module(array) and not models.is_block(array)
assert models.to_plain((array,))[0] is array and models.size_bytes([array]) == 24
assert models.single_array({"x": array}) is array
stack = models.Stack(array, [1, 1])
assert [part.shape for part in stack.parts()] == [(1, 3), (1, 3)]
assert models.Passes(lambda data: data, None).may_share(array)
assert "mxnet" not in sys.modules
models.make_predictor
assert "mxnet" in sys.modules
"""


def test_what_needs_no_mxnet_does_without_it():
    process = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True)
    assert (process.returncode, process.stderr) == (0, "")


def test_every_public_name_is_there():
    assert set(models._MODULES) == set(models.__all__)
    for name in models.__all__:
        assert getattr(models, name) is getattr(models, name)


def test_a_name_that_is_none():
    with pytest.raises(AttributeError, match="'mms_handler.models' has no attribute 'predictors'"):
        models.predictors  # noqa: B018
