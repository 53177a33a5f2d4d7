"""Targets that hypothesis builds: what is written is what is read again.

A fuzzer's bytes drive hypothesis' own choices (``fuzz_one_input``), so each test here is a target,
and runs as an ordinary test too.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from fuzz_checks import same
from fuzz_codecs import agree, read
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from mms_handler import codecs
from mms_handler.media import CSV, JSON, JSON_LINES, NPY, NPZ, RECORDIO

_SHAPES = npst.array_shapes(min_dims=1, max_dims=4, min_side=1, max_side=8)
_FLOATS = npst.arrays(np.float32, _SHAPES, elements=st.floats(width=32))
_NAMES = st.text(st.characters(codec="ascii", categories=("L", "N")), min_size=1, max_size=6)
_QUIET = settings(
    deadline=None,
    suppress_health_check=list(HealthCheck),
    database=None,
    derandomize=True,
    max_examples=100,
)


def _finite(array: Any) -> Any:
    """What JSON can carry of an array: NaN where a number is not finite."""
    return np.where(np.isfinite(array), array, np.float32(np.nan))


@_QUIET
@given(_FLOATS, st.sampled_from([JSON, CSV, NPY, NPZ, JSON_LINES, RECORDIO]))
def arrays(array: Any, content_type: str) -> None:
    """A float32 array is the same after it was written and read, in the shape of its type."""
    expected = {
        JSON: _finite(array),
        CSV: array.reshape(len(array), -1),
        NPY: array,
        NPZ: {"arr_0": array},
        JSON_LINES: _finite(array),
        RECORDIO: array.reshape(len(array), -1) if array.ndim == 1 else array,
    }[content_type]
    body, written_as = codecs.encode(array, content_type, JSON)
    assert written_as == content_type
    assert same(read(body, content_type), expected)
    agree(body, content_type)
    if content_type in (JSON, NPZ, JSON_LINES, RECORDIO):
        pair = {"b": array, "a": array[:, None]}
        body, _ = codecs.encode(pair, content_type, JSON)
        finite = content_type in (JSON, JSON_LINES)
        flat = content_type == RECORDIO and array.ndim == 1
        expected = {
            "b": array.reshape(len(array), -1) if flat else array,
            "a": array[:, None],
        }
        decoded = read(body, content_type)
        assert same(decoded, {k: _finite(v) if finite else v for k, v in expected.items()})


_NUMBERS = st.one_of(
    st.integers(),
    st.floats(),
    st.none(),
    st.booleans(),
    st.sampled_from([-0.0, 2**53, 2**53 + 1, -(2**63), 10**400, 1e-320, 3.4028236e38, "1"]),
)
_NESTED = st.recursive(_NUMBERS, lambda inner: st.lists(inner, max_size=4), max_leaves=20)
_EQUAL_ROWS = st.integers(1, 4).flatmap(
    lambda width: st.lists(
        st.lists(_NUMBERS, min_size=width, max_size=width), min_size=1, max_size=9
    )
)
_SPACES = st.sampled_from([None, (",", ":"), (" , ", " : "), ("\n,\t", ":")])


@_QUIET
@given(
    st.one_of(
        _NESTED, _EQUAL_ROWS, st.dictionaries(_NAMES, st.one_of(_NESTED, _EQUAL_ROWS), max_size=4)
    ),
    _SPACES,
    st.integers(0, 40),
)
def numbers(value: Any, separators: Any, copies: int) -> None:
    """Lists of numbers in JSON and its relatives: the quick readers agree with the careful ones."""
    text = json.dumps(value, separators=separators)
    read(text.encode(), JSON)
    agree(text.encode(), JSON)
    agree((b"[" + b",".join([text.encode()] * (copies + 1)) + b"]"), JSON)
    rows = value if isinstance(value, list) else [value]
    lines = "\n".join(json.dumps(row) for row in rows).encode() * (copies or 1)
    agree(lines or b" ", JSON_LINES)
    cells = [row if isinstance(row, list) else [row] for row in rows]
    body = "\r\n".join(",".join(map(str, row)) for row in cells).encode()
    agree(body or b" ", CSV)
    if body:
        read(body, CSV)


TARGETS = {
    "arrays": (
        arrays.hypothesis.fuzz_one_input,
        lambda: [bytes(range(i, i + 80)) for i in range(40)],
    ),
    "numbers": (
        numbers.hypothesis.fuzz_one_input,
        lambda: [bytes(range(i, i + 80)) for i in range(40)],
    ),
}
