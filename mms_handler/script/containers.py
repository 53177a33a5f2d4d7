"""Modules that scripts import from the old containers, and the variables they read.

The modules stand in where the real ones are not installed; scripts import them at their top,
when they train and when they are served.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any, Sequence

from mms_handler import settings
from mms_handler.errors import ModelError

#: The package as it was called, and as the SDK's documentation called it (CONTRACT A7).
PACKAGES = ("sagemaker_mxnet_container", "sagemaker_mxnet_training")


def install() -> None:
    """Each of PACKAGES can be imported, with its training_utils: the real one where it is."""
    for name in PACKAGES:
        if name not in sys.modules and importlib.util.find_spec(name) is None:
            _stand_in(name)


def _stand_in(name: str) -> None:
    package, utils = _module(name, is_package=True), _module(f"{name}.training_utils")
    vars(utils).update(save=save, scheduler_host=scheduler_host)
    vars(package).update(training_utils=utils)
    sys.modules.update({name: package, utils.__name__: utils})


def _module(name: str, *, is_package: bool = False) -> ModuleType:
    spec = ModuleSpec(name, loader=None, origin=__file__, is_package=is_package)
    return importlib.util.module_from_spec(spec)


# --- training_utils --------------------------------------------------------------------------


def save(
    model_dir: Any,
    model: Any,
    current_host: str | None = None,
    hosts: Sequence[str] | None = None,
) -> None:
    """Write ``model`` as the default save does, on the first host alone.

    Args:
        model_dir: the folder; scripts pass it second as often as first.
        model: what was trained.
        current_host: this host; SM_CURRENT_HOST if it is left out.
        hosts: all hosts; SM_HOSTS if they are left out.

    Raises:
        ModelError: neither, or both, of the first two is a folder's name, or ``model`` is
            nothing that the default save writes.

    Source: CONTRACT A5, C14 and C17.
    """
    folder, trained = _told_apart(model_dir, model)
    if _is_first(current_host, hosts):
        from mms_handler import models  # mxnet: two seconds that only who saves waits for

        models.save(trained, Path(folder))


def scheduler_host(hosts: Sequence[str]) -> str:
    """The host that leads a distributed training."""
    return sorted(hosts)[0]


def _told_apart(first: Any, second: Any) -> tuple[Any, Any]:
    """The folder and the model, in whichever order they came."""
    folders = [isinstance(one, (str, os.PathLike)) for one in (first, second)]
    if folders.count(True) != 1:
        raise ModelError(
            "save(model_dir, model) wants the name of one folder and one model, got "
            f"{type(first).__name__} and {type(second).__name__}"
        )
    return (first, second) if folders[0] else (second, first)


def _is_first(current_host: str | None, hosts: Sequence[str] | None) -> bool:
    """Whether this host is the one that saves; it is where nothing tells of others."""
    told = settings.environment()
    hosts = hosts or json.loads(told.get("SM_HOSTS") or "[]")
    current_host = current_host or told.get("SM_CURRENT_HOST")
    return not hosts or not current_host or hosts[0] == current_host


# --- variables -------------------------------------------------------------------------------


def hosting_variables(model_dir: str, gpus: int, cpus: int) -> dict[str, str]:
    """The SM_* that scripts read when they are imported to be served, by name.

    Args:
        model_dir: folder with the artifacts and ``code/``.
        gpus: that this worker may use.
        cpus: likewise.

    Returns:
        Texts: lists and dicts as compact JSON with sorted keys.  There is no SM_TRAINING_ENV and
        no SM_CHANNEL_<NAME>, by which scripts tell that they are to train.

    Source: CONTRACT A7, ``to_env_vars``.
    """
    host, hosts = "algo-1", ["algo-1"]
    told = {
        "MODEL_DIR": model_dir,
        "MODULE_DIR": os.path.join(model_dir, "code"),
        "NUM_CPUS": cpus,
        "NUM_GPUS": gpus,
        "HOSTS": hosts,
        "CURRENT_HOST": host,
        "RESOURCE_CONFIG": {"current_host": host, "hosts": hosts},
        "NETWORK_INTERFACE_NAME": "eth0",
        "INPUT_DIR": "/opt/ml/input",
        "INPUT_CONFIG_DIR": "/opt/ml/input/config",
        "INPUT_DATA_CONFIG": {},
        "CHANNELS": [],
        "OUTPUT_DIR": "/opt/ml/output",
        "OUTPUT_DATA_DIR": "/opt/ml/output/data",
        "OUTPUT_INTERMEDIATE_DIR": "/opt/ml/output/intermediate",
        "HPS": {},
        "FRAMEWORK_PARAMS": {},
        "USER_ARGS": [],
        "LOG_LEVEL": 20,
    }
    return {f"SM_{name}": _text(value) for name, value in told.items()}


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(value, sort_keys=True, separators=(",", ":"))
