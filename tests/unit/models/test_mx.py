"""mx: devices and kinds of models."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import pytest
from mxnet.base import MXNetError

from mms_handler import models
from mms_handler.errors import BadInput
from mms_handler.models import mx


@pytest.mark.parametrize(("gpu_id", "text"), [(None, "cpu(0)"), (0, "gpu(0)"), ("1", "gpu(1)")])
def test_the_device_is_the_one_mms_gave(gpu_id, text):
    """A worker computes on its GPU, or on the CPU if it has none."""
    assert str(models.device(gpu_id)) == text


def test_what_is_a_module_and_what_a_block(sums, sum_block):
    """MXNet's two kinds of models are distinguished from each other and from anything else."""
    kinds = [
        (models.is_module(model), models.is_block(model)) for model in (sums(), sum_block, object())
    ]
    assert kinds == [(True, False), (False, True), (False, False)]


STACK = """
Stack trace:
  [bt] (0) libmxnet.so(+0x1) [0x7f]
"""


@pytest.mark.parametrize(
    ("text", "line"),
    [
        pytest.param("MXNetError: Check failed: a == b", "Check failed: a == b", id="its name"),
        pytest.param(
            "Traceback (most recent call last):\n  File \"a.cc\", line 3\n"
            "MXNetError: Shape inconsistent, Provided = [2]" + STACK,
            "Shape inconsistent, Provided = [2]",
            id="below a trace",
        ),
        pytest.param(
            "[12:00:00] a.cc:3:\nCheck failed: b > 0" + STACK, "Check failed: b > 0", id="a check"
        ),
        pytest.param("[12:00:00] a\n\n  Error in operator fc" + STACK, "Error in operator fc",
                     id="an operator"),
        pytest.param("\n first \n second", "first", id="no such line"),
        pytest.param("", "MXNetError", id="no text"),
        pytest.param("Error " + "x" * 1_000, "Error " + "x" * 394, id="a long one"),
    ],
)  # fmt: skip
def test_the_sentence_of_an_error(text, line):
    """Without the C++ stack trace around it."""
    assert mx.first_line(MXNetError(text)) == line


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("MXNetError: Incompatible attr in node fc", BadInput),
        ("MXNetError: Shape inconsistent", BadInput),
        ("MXNetError: wrong SHAPE", BadInput),
        ("MXNetError: out of memory\nshape 3", MXNetError),
        ("Check failed: e == CUDNN_STATUS_SUCCESS", MXNetError),
    ],
)
def test_whose_fault_an_error_is(text, kind):
    """A body's, if the model does not take its shape; else it is a bug."""
    with pytest.raises(kind) as caught, mx.shape_errors_as_bad_input():
        raise MXNetError(text)
    if kind is BadInput:
        sentence = text.replace("MXNetError: ", "")
        assert str(caught.value) == f"the model does not take this body: {sentence}"


@pytest.mark.parametrize("version", ["1.24.0", "1.26.4", "2.0.0"])
def test_a_numpy_that_is_too_new(version):
    """Another package may have brought it; mxnet would fail somewhere in its import."""
    program = f"import numpy; numpy.__version__ = {version!r}; import mms_handler.models"
    done = subprocess.run([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True)
    assert done.stderr.splitlines()[-1].endswith(
        f"mxnet 1.9.1 needs numpy < 1.24, found {version}: pip install 'numpy<1.24'"
    )


@pytest.mark.parametrize(("has_cuda", "count"), [(True, 3), (False, 0)])
def test_how_many_gpus_there_are(monkeypatch, has_cuda, count):
    """A build without CUDA has none, and is not asked: it would print an error."""
    asked = []
    features = SimpleNamespace(is_enabled=lambda name: asked.append(name) or has_cuda)
    monkeypatch.setattr(mx.mx.runtime, "Features", lambda: features)
    monkeypatch.setattr(mx.mx.context, "num_gpus", lambda: 3 if has_cuda else pytest.fail("asked"))
    assert mx.gpu_count() == count
    assert asked == ["CUDA"]
