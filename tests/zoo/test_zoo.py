"""Every family of MXNet's model zoo is exported and proved: `make test-zoo`."""

from __future__ import annotations

import pytest

from tests.zoo.networks import LARGE, largest_difference

pytestmark = pytest.mark.zoo


@pytest.mark.parametrize("name", LARGE)
def test_a_network_is_proved(name):
    assert largest_difference(name, LARGE[name], classes=1000) <= 1e-5
