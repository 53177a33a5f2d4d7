"""Give each worker other random numbers, unless the script has chosen the seed.

MXNet's generator begins with the same seed in each process, so it is left alone.
"""

from __future__ import annotations

import random
from typing import Any, Callable

from mms_handler import numpy_import


class Seeds:
    """The seeds of Python's and NumPy's own generators, in a process that will be forked."""

    def __init__(self) -> None:
        self._chosen: set[Any] = set()  # the modules whose seed the script has chosen
        self._functions: dict[Any, Callable[..., None]] = {}
        self._state: Any = None

    def watch(self) -> None:
        """Notice from now on which seeds are chosen."""
        for module in filter(None, (random, numpy_import.random())):
            self._functions[module] = module.seed
            module.seed = self._noting(module)  # type: ignore[attr-defined]

    def _noting(self, module: Any) -> Callable[..., None]:
        original = module.seed

        def seed(*args: Any, **keywords: Any) -> None:
            original(*args, **keywords)
            if any(value is not None for value in (*args[:1], *keywords.values())):
                self._chosen.add(module)
            else:
                self._chosen.discard(module)

        return seed

    def forget(self) -> None:
        """Notice no more."""
        for module, function in self._functions.items():
            module.seed = function

    def keep(self) -> None:
        """Keep the seeds that were chosen: Python chooses its own anew in a fork."""
        self.forget()
        self._state = random.getstate()

    def renew(self) -> None:
        """In a fork, choose the seeds that the script has not chosen."""
        numpy_random: Any = numpy_import.random()
        if numpy_random and numpy_random not in self._chosen:
            numpy_random.seed()
        if random in self._chosen:
            random.setstate(self._state)
