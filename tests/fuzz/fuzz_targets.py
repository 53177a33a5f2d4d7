"""All targets by name: a function of a fuzzer's bytes, its seeds, its kept inputs, its share."""

from __future__ import annotations

import ast
import functools
import importlib
from pathlib import Path
from typing import Callable, List, NamedTuple

CORPUS = Path(__file__).parent / "corpus"

#: The modules with targets, and each target's share of a run's inputs.  Cheap ones get more.
SHARES = {
    "fuzz_codecs": {
        **{"json": 120, "csv": 90, "jsonlines": 120, "charsets": 60, "npy": 90, "npz": 60},
        **{"recordio": 80, "gzipped": 80, "encode": 80, "images": 6},
    },
    "fuzz_core": {"core": 240},
    "fuzz_properties": {"arrays": 3, "numbers": 3},
    "fuzz_headers": {"accept": 70, "content_type": 70},
    "fuzz_archives": {"zips": 6, "tars": 6, "manifests": 60, "signatures": 40, "addresses": 50},
    "fuzz_frames": {"frames": 6},
    "fuzz_settings": {"settings": 40},
    "fuzz_management": {"access": 50, "management": 70, "management_socket": 4},
    "fuzz_http": {"http": 2},
}

#: Targets that need Java, and a server for a whole run.
NEED_SERVER = ("http",)

#: Targets whose code a fuzzer of Python cannot follow.
NOT_PYTHON = (*NEED_SERVER, "core")


class Target(NamedTuple):
    """One thing that is fuzzed.

    Attributes:
        name: as on the command line.
        run: takes an input; raises for one that breaks a property.
        seeds: makes the inputs to begin with.
        share: its part of a run's inputs, relative to the others'.
    """

    name: str
    run: Callable[[bytes], None]
    seeds: Callable[[], List[bytes]]
    share: int


def names() -> list[str]:
    """All targets' names."""
    return [name for shares in SHARES.values() for name in shares]


@functools.lru_cache(maxsize=None)
def load(name: str) -> Target:
    """Import a target's module."""
    (module,) = (module for module, shares in SHARES.items() if name in shares)
    run, seeds = importlib.import_module(module).TARGETS[name]
    return Target(name, run, seeds, SHARES[module][name])


def kept(name: str) -> list[bytes]:
    """The inputs that are kept for a target: a literal of bytes on each line, or a comment."""
    path = CORPUS / f"{name}.txt"
    lines = path.read_text("utf-8").splitlines() if path.exists() else []
    return [ast.literal_eval(line) for line in lines if line and not line.startswith("#")]
