"""What scripts use of the old SageMaker containers: modules that they import, and SM_* variables.

Scripts import these modules at their top, in training and in serving.  A module here replaces the
real one if that is not installed.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, Sequence

from mms_handler import settings
from mms_handler.errors import ModelError, ScriptError

#: The packages that scripts import, each with its submodules and the names of this module that are
#: in them; "" is the package itself.  The first one's real name and its name in the SDK's
#: documentation, then the two that read a job for it (CONTRACT A7).
PACKAGES: dict[str, dict[str, tuple[str, ...]]] = {
    "sagemaker_mxnet_container": {"training_utils": ("save", "scheduler_host")},
    "sagemaker_mxnet_training": {"training_utils": ("save", "scheduler_host")},
    "sagemaker_containers": {"": ("training_env",)},
    "sagemaker_training": {"environment": ("Environment",)},
}


def install() -> None:
    """Make each of PACKAGES importable, with its submodules; an installed one is kept."""
    for name, submodules in PACKAGES.items():
        if name not in sys.modules and importlib.util.find_spec(name) is None:
            package = sys.modules[name] = _module(name, is_package=True)
            for submodule, members in submodules.items():
                module = _module(f"{name}.{submodule}") if submodule else package
                vars(module).update((member, globals()[member]) for member in members)
                if submodule:
                    vars(package)[submodule] = sys.modules[module.__name__] = module


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
    """Write ``model`` with the default save, on the first host only.

    Args:
        model_dir: the folder.  Scripts pass the folder and the model in either order.
        model: the trained model.
        current_host: this host; default SM_CURRENT_HOST.
        hosts: all hosts; default SM_HOSTS.

    Raises:
        ModelError: not exactly one of the first two is a path, or the default save cannot write
            ``model``.

    Source: CONTRACT A5, C14 and C17.
    """
    folder, trained = _in_order(model_dir, model)
    if _saves(current_host, hosts):
        from mms_handler import models  # imports mxnet: two seconds, only on the host that saves

        models.save(trained, Path(folder))


def scheduler_host(hosts: Sequence[str]) -> str:
    """The host that leads a distributed training."""
    return sorted(hosts)[0]


def _in_order(first: Any, second: Any) -> tuple[Any, Any]:
    """The folder and the model, from either order."""
    is_path = [isinstance(argument, (str, os.PathLike)) for argument in (first, second)]
    if is_path.count(True) != 1:
        raise ModelError(
            "save(model_dir, model) expects the path of one folder and one model, got "
            f"{type(first).__name__} and {type(second).__name__}"
        )
    return (first, second) if is_path[0] else (second, first)


def _saves(current_host: str | None, hosts: Sequence[str] | None) -> bool:
    """Whether this host saves: it is the first one, or it does not know of others."""
    environment = settings.environment()
    hosts = hosts or json.loads(environment.get("SM_HOSTS") or "[]")
    current_host = current_host or environment.get("SM_CURRENT_HOST")
    return not hosts or not current_host or hosts[0] == current_host


# --- training_env ----------------------------------------------------------------------------


def training_env() -> SimpleNamespace:
    """The job of a script-mode script, as SM_TRAINING_ENV has it, with a value's name as attribute.

    Such as ``channel_input_dirs``, ``hyperparameters``, ``model_dir``, ``hosts`` and ``num_gpus``.

    Raises:
        ScriptError: no such job runs here.

    Source: https://github.com/aws/sagemaker-containers, README; ``Environment`` is its name in
    sagemaker-training.
    """
    text = settings.environment().get("SM_TRAINING_ENV")
    if not text:
        raise ScriptError(
            "SM_TRAINING_ENV is not set: the environment of a training was asked for, and no "
            "script-mode training runs here; if the script also serves, ask for it below "
            "if __name__ == '__main__'"
        )
    return SimpleNamespace(**json.loads(text))


Environment = training_env


# --- variables -------------------------------------------------------------------------------


def hosting_variables(model_dir: str, gpus: int, cpus: int) -> dict[str, str]:
    """The SM_* variables that a script may read when a worker imports it, by name.

    Args:
        model_dir: folder with the artifacts and ``code/``.
        gpus: how many GPUs this worker may use.
        cpus: how many CPUs it may use.

    Returns:
        Strings; lists and dicts are compact JSON with sorted keys.  SM_TRAINING_ENV and
        SM_CHANNEL_<NAME> are missing: scripts take them as a sign that they should train.

    Source: CONTRACT A7, ``to_env_vars``.
    """
    host, hosts = "algo-1", ["algo-1"]
    values = {
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
    return {
        f"SM_{name}": value
        if isinstance(value, str)
        else json.dumps(value, sort_keys=True, separators=(",", ":"))
        for name, value in values.items()
    }
