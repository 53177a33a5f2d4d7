"""What ``make test-large`` runs: it takes minutes, and gigabytes of disk."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that sets the size of the large file."""
    parser.addoption("--gb", type=float, default=5, help="size of the large file (default: 5)")
