"""mx: devices and kinds of models."""

from __future__ import annotations

import pytest

from mms_handler import models


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
