"""Seed the random generators of Python, NumPy and MXNet, without importing the last two."""

from __future__ import annotations

import random
import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Sequence


def seed_generators(seed: int) -> None:
    """Seed Python's generator now; NumPy's and MXNet's now or as soon as they are imported.

    Args:
        seed: from 0 to 2**31 - 1, which MXNet takes.
    """
    random.seed(seed)
    imported = {name for name in ("numpy", "mxnet") if name in sys.modules}
    for name in imported:
        sys.modules[name].random.seed(seed)
    later = {"numpy", "mxnet"} - imported
    if later:
        sys.meta_path.insert(0, _SeedingFinder(later, seed))


class _SeedingFinder(MetaPathFinder):
    """Finds packages as the other finders do, and seeds their generators after the import."""

    def __init__(self, names: set[str], seed: int) -> None:
        self._names, self._seed = names, seed

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name not in self._names:
            return None
        others = [finder for finder in sys.meta_path if finder is not self]
        spec = next(filter(None, (each.find_spec(name, path, target) for each in others)), None)
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            self._names.remove(name)
            module.random.seed(self._seed)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec
