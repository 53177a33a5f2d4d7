"""Small networks of the model zoo's families are proved; make test-zoo proves the others."""

from __future__ import annotations

import pytest

from tests.zoo.networks import SMALL, largest_difference


@pytest.mark.parametrize("name", SMALL)
def test_a_network_is_proved(name):
    assert largest_difference(name, SMALL[name]) <= 1e-5
