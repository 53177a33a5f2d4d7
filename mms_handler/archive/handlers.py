"""The handlers that an archive may name: functions that MMS finds."""

from __future__ import annotations

import importlib.util
import re
from typing import Iterable

from mms_handler.errors import ArchiveError


def check_handler(handler: str, entries: Iterable[str]) -> None:
    """Check that MMS can find ``handler`` among an archive's ``entries`` or in this Python.

    Args:
        handler: ``module:function``, or ``module``, which MMS takes for ``module:handle``, or for
            its only class (mms/model_loader.py:118-135).
        entries: names in the archive.

    Raises:
        ArchiveError: it is neither of these, it leads outside the archive, or there is no such
            module.
    """
    module, separator, function = handler.partition(":")
    if (
        not (module and function.isidentifier() == bool(separator))
        or module.startswith("/")
        or ".." in module
    ):
        raise ArchiveError(
            f"the handler {handler!r} is not module:function or module, with a module in the "
            "archive or an installed one"
        )
    path = re.sub(r"\.py$", "", module).replace(".", "/")
    if not {f"{path}.py", f"{path}/__init__.py"} & set(entries) and not _is_installed(path):
        raise ArchiveError(f"the handler {handler!r} is neither in the archive nor installed")


def _is_installed(path: str) -> bool:
    """Whether this Python has the module's package.  The package is not imported."""
    package = path.partition("/")[0]
    if package in ("", "__main__"):  # in a worker, __main__ is another module than here
        return False
    return importlib.util.find_spec(package) is not None
