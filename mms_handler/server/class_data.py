"""Java's class data: the classes of the front end, read once and kept in a file for later starts.

first start    -XX:DumpLoadedClassList ──▶ classes ──▶ java -Xshare:dump ──▶ cache/java-KEY.jsa
later starts   -XX:SharedArchiveFile=cache/java-KEY.jsa

A front end that starts from the file takes half of the processor time and less memory.  Java itself
checks that the file is of the same Java and of the same jars, and does without it if it is not.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
import shutil
import subprocess
import threading
import time
from pathlib import Path
from typing import Iterator, Mapping, NamedTuple, Sequence

import psutil

from mms_handler import settings
from mms_handler.server import java
from mms_handler.server.machine import available_bytes
from mms_handler.settings import Settings

log = logging.getLogger(__name__)

#: The end of the name of a file that is being written.
_PART = ".part"

#: Older Javas cannot keep classes that are not their own.
_OLDEST_JAVA = 11

#: What the Java that writes the file may take at most: it took 190 MB.
_WRITING_BYTES = 2**29

#: How to start from the file.  Since version 17 Java puts it at a random address by default, so it
#: changes every address in it, which takes time and makes all its pages this process's own.
#: Other versions do not know the option.
_USED = (
    *("-Xshare:auto", "-Xlog:cds*=off", "-XX:+IgnoreUnrecognizedVMOptions"),
    *("-XX:+UnlockDiagnosticVMOptions", "-XX:ArchiveRelocationMode=0"),
)

#: A file that was not used for so long is of a Java, or of jars, that are not there any more.
_UNUSED_S = 30 * 24 * 3600


class ClassData(NamedTuple):
    """The file of class data for one Java and its jars.

    Fields:
        file: where it is, or will be; None: this Java cannot have one, or nowhere is a safe place.
        classes: the list of classes that a front end without the file writes.
        java: the command of a Java that writes the file.
    """

    file: Path | None
    classes: Path
    java: Sequence[str]

    def options(self) -> list[str]:
        """Java's options: to start from the file, or to list the classes for it."""
        if self.file is None:
            return []
        if self.file.exists():
            with contextlib.suppress(OSError):  # another user's, whom it may serve, too
                os.utime(self.file)
            return [f"-XX:SharedArchiveFile={self.file}", *_USED]
        return [f"-XX:DumpLoadedClassList={self.classes}"]

    @contextlib.contextmanager
    def written(self, env: Mapping[str, str]) -> Iterator[None]:
        """Write the file during the ``with`` block, unless it is there or memory is short.

        It takes two seconds of processor time, at the lowest priority.  A block that ends before
        leaves no file.

        Args:
            env: Java's environment.
        """
        if self.file is None or not self.classes.exists() or available_bytes() < _WRITING_BYTES:
            yield
            return
        self.file.parent.mkdir(parents=True, exist_ok=True)
        _remove_unused(self.file.parent)
        partial = self.file.with_name(f".{self.file.stem}.{os.getpid()}{_PART}")
        command = [
            *self.java,
            "-Xshare:dump",
            f"-XX:SharedClassListFile={self.classes}",
            f"-XX:SharedArchiveFile={partial}",
        ]
        with subprocess.Popen(
            command,
            env=dict(env),
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as process:
            os.setpriority(os.PRIO_PROCESS, process.pid, 19)
            waiting = threading.Thread(target=_keep, args=(process, partial, self.file))
            waiting.start()
            try:
                yield
            finally:
                process.kill()
                waiting.join()
                with contextlib.suppress(FileNotFoundError):
                    partial.unlink()


def _keep(process: subprocess.Popen[bytes], partial: Path, file: Path) -> None:
    """Move the file to its place if the process has written it."""
    if process.wait() == 0:
        with contextlib.suppress(FileNotFoundError):  # another machine's server has removed it
            os.replace(partial, file)


def of(env: Mapping[str, str], folder: Path, current: Settings) -> ClassData:
    """The class data of the Java that ``env`` names, for a front end with this private folder."""
    command = [java.program(env), *java.FLAGS, "-Xmx32m", "-cp", java.class_path(current.java_jars)]
    cache = settings.cache_folder(current)
    release = _release(command[0], env.get("PATH"))
    refusal = "this Java is too old" if release is None else None
    if refusal is None and not current.cache_dir:
        refusal = settings.make_private(cache)
    if refusal or release is None:
        log.debug("the front end starts without class data in %s: %s", cache, refusal)
        return ClassData(None, folder / "classes", command)
    _remove_left(cache)
    key = hashlib.sha256("\n".join([release, *command, *_jars(command[-1])]).encode())
    return ClassData(cache / f"java-{key.hexdigest()[:16]}.jsa", folder / "classes", command)


def _release(program: str, path: str | None) -> str | None:
    """Java's own description of its version; None if it has none, or is too old."""
    file = Path(shutil.which(program, path=path) or program).resolve().parents[1] / "release"
    text = file.read_text() if file.is_file() else ""
    version = re.search(r'^JAVA_VERSION="(\d+)', text, re.M)
    return f"{file}\n{text}" if version and int(version[1]) >= _OLDEST_JAVA else None


def _jars(class_path: str) -> Iterator[str]:
    """Each jar of a class path of folders, with what changes when it is replaced."""
    for folder in class_path.split(":"):
        for jar in sorted(Path(folder).parent.glob("*.jar")):
            status = jar.stat()
            yield f"{jar} {status.st_size} {status.st_mtime_ns}"


def _remove_unused(cache: Path) -> None:
    for file in cache.glob("java-*.jsa"):
        with contextlib.suppress(OSError):  # it is another user's, or just removed
            if file.stat().st_mtime < time.time() - _UNUSED_S:
                file.unlink()


def _remove_left(cache: Path) -> None:
    """Remove what a server was writing when it was killed; its process id is in the name."""
    for file in cache.glob(f".java-*{_PART}"):
        pid = file.name[: -len(_PART)].rpartition(".")[2]
        with contextlib.suppress(OSError, ValueError):  # it is another user's, or just removed
            if not _wrote(int(pid), file.stat().st_mtime):
                file.unlink()


def _wrote(pid: int, written_s: float) -> bool:
    """Whether a process may have written a file, which was last written at ``written_s``."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return float(psutil.Process(pid).create_time()) <= written_s
    return False
