"""pytest_plugin: which warnings are left out; test_project uses the fixtures."""

from __future__ import annotations

import warnings
from types import SimpleNamespace

import pytest

from mms_handler import pytest_plugin

MXNETS = [
    "distutils Version classes are deprecated. Use packaging.version instead.",
    "`np.bool` is a deprecated alias for the builtin `bool`.",
    "In accordance with NEP 32, the function pv was removed from NumPy version 1.20.",
    "Please use `csr_matrix` from the `scipy.sparse` namespace, the `scipy.sparse.csr` namespace",
]


@pytest.mark.parametrize(
    ("text", "category", "shown"),
    [(text, DeprecationWarning, 0) for text in MXNETS]
    + [("np.bool", UserWarning, 1), ("another function is deprecated", DeprecationWarning, 1)],
)
def test_which_warnings_are_left_out(text, category, shown):
    lines = []
    config = SimpleNamespace(addinivalue_line=lambda name, line: lines.append((name, line)))
    pytest_plugin.pytest_configure(config)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for name, line in lines:
            assert name == "filterwarnings"
            action, message, kind = line.split(":")
            warnings.filterwarnings(
                action, message, {"DeprecationWarning": DeprecationWarning}[kind]
            )
        warnings.warn(text, category, stacklevel=1)
    assert len(caught) == shown
