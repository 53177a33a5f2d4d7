"""Serve, train and pack SageMaker MXNet scripts with Multi Model Server.

What ``__all__`` names is public; see docs/api.md.  It is imported when it is first used, so that
``import mms_handler`` alone costs nothing.  Everything else is private.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mms_handler.api import Management, Model, check, doctor, init, load, pack, serve, train
    from mms_handler.archive import Report
    from mms_handler.client import Answer
    from mms_handler.server import Server

__version__ = "0.1.0"
__all__ = [
    "Answer",
    "Management",
    "Model",
    "Report",
    "Server",
    "check",
    "doctor",
    "init",
    "load",
    "pack",
    "serve",
    "train",
]

#: The modules of the public names that are not in api.
_MODULES = {"Answer": "client", "Report": "archive", "Server": "server"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = _MODULES.get(name, "api")
    return getattr(importlib.import_module(f"{__name__}.{module}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
