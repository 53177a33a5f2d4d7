"""Say what an export wrote: for people, and for programs."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Mapping, Sequence

_BATCHES = {
    True: "rows give the same alone as beside others; a server may put requests together",
    False: "rows may depend on one another; a server must not put requests together",
}


def rows(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Names and values, for people."""
    if "arrays" in report:
        return [
            *((array["name"], f"{_shape(array)} {array['type']}") for array in report["arrays"]),
            *_functions(report),
        ]
    differences = [
        ("difference", f"{each['output']}: {each['largest']:.1e} of its largest value, for "
         f"{each['data']}")
        for each in report["differences"]
    ]  # fmt: skip
    return [
        *(("input", _tensor(each)) for each in report["inputs"]),
        *(("output", _tensor(each)) for each in report["outputs"]),
        *differences,
        ("proved with", f"{len(report['cases'])} inputs: the sample, and made-up rows"),
        ("batches", _BATCHES[report["rows"]]),
        *_functions(report),
    ]


def as_dict(report: Mapping[str, Any], written: Sequence[Path]) -> dict[str, Any]:
    """The report for programs, with the files that were written."""
    return {"files": [str(path) for path in written], **report}


def _tensor(tensor: Mapping[str, Any]) -> str:
    return f"{tensor['name']} {_shape(tensor)} {tensor['type']}"


def _shape(tensor: Mapping[str, Any]) -> str:
    sides = list(map(str, tensor["shape"]))
    return f"({', '.join(sides)}{',' if len(sides) == 1 else ''})"


def _functions(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    names = ", ".join(report["functions"])
    return [("not exported", f"{names} of the script: clients have to do this")] if names else []
