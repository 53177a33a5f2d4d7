"""Look at Python and its packages, and at Java."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from importlib import metadata

from mms_handler import settings
from mms_handler.codecs import compiled
from mms_handler.diagnosis.finding import Finding, ok, problem
from mms_handler.errors import ServerError
from mms_handler.server import java_variables
from mms_handler.settings import Settings

#: Seconds that a program may take to say its version, also on a busy machine.
_LIMIT_S = 60

_MXNET = """\
import warnings
warnings.simplefilter("ignore")
from mms_handler.mxnet_import import fast_import
with fast_import():
    import mxnet
cuda = mxnet.runtime.Features().is_enabled("CUDA")
print(mxnet.__version__, mxnet.context.num_gpus() if cuda else -1)
"""


def python(_: Settings) -> Finding:
    """The Python that runs this."""
    text = f"{platform.python_version()}, {sys.executable}"
    if not (3, 8) <= sys.version_info[:2] <= (3, 11):
        return problem("python", text, "use Python 3.8 to 3.11: mxnet 1.9.1 runs on no newer one")
    return ok("python", text)


def numpy(_: Settings) -> Finding:
    """NumPy must be older than 1.24."""
    version = _version("numpy")
    numbers = [int(number) for number in re.findall(r"\d+", version)]
    if not version or numbers >= [1, 24]:
        advice = "mxnet 1.9.1 needs an older one: pip install 'numpy<1.24'"
        return problem("numpy", version or "not installed", advice)
    return ok("numpy", version)


def mxnet(_: Settings) -> Finding:
    """MXNet must be importable; a process of its own tries that."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", _MXNET],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return problem("mxnet", f"it is not imported after {_LIMIT_S} s", "try: import mxnet")
    words = done.stdout.split()
    if done.returncode or len(words) != 2:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        return problem("mxnet", f"it cannot be imported: {lines[-1]}", _mxnet_advice(lines[-1]))
    version, gpus = words[0], int(words[1])
    return ok("mxnet", f"{version}, {'for the CPU' if gpus < 0 else f'with {gpus} GPUs'}")


def _mxnet_advice(reason: str) -> str:
    library = re.search(r"(lib[\w.+-]+\.so[\w.]*)", reason)
    if library:
        return f"install the system's package that has {library.group(1)}"
    return "install it again: pip install --force-reinstall mxnet==1.9.1 'numpy<1.24'"


def mms(_: Settings) -> Finding:
    """MMS's package has the front end."""
    version = _version("multi-model-server")
    if not version:
        return problem("mms", "not installed", "pip install multi-model-server")
    return ok("mms", version)


def java(_: Settings) -> Finding:
    """Java must be at least version 8."""
    env = settings.environment()
    try:
        env.update(java_variables(env))
    except ServerError as exc:
        reason, _sep, advice = str(exc).partition(": ")
        return problem("java", reason, advice)
    home = env.get("JAVA_HOME")
    in_path = str(shutil.which("java", path=env.get("PATH", "")))
    program = os.path.join(home, "bin", "java") if home else in_path
    try:
        done = subprocess.run(
            [program, "-version"],
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_LIMIT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as exc:
        return problem("java", f"{program} does not run: {exc}", "set JAVA_HOME to another Java")
    version = re.search(r'version "(?:1\.)?(\d+)([^"]*)"', done.stderr)
    if done.returncode or not version:
        line = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[0]
        return problem("java", f"{program} does not run: {line}", "set JAVA_HOME to another Java")
    text = f"{version.group(1)}{version.group(2)}, {program}"
    if int(version.group(1)) < 8:
        return problem("java", text, "MMS needs Java 8 or newer: set JAVA_HOME to one")
    return ok("java", text)


def core(current: Settings) -> Finding:
    """Numbers are read and written by compiled code, if it was built."""
    if compiled.core is None:
        return ok("compiled core", "not built, for want of a C++ compiler; Python does the same")
    return ok(
        "compiled core", "there" if current.core == "auto" else "there, but MMS_HANDLER_CORE is off"
    )


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""
