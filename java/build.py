"""Builds mms_handler/plugins/mms_handler.jar from the sources beside this file.

The same sources and the same major version of javac give the same bytes: the jar's members are
sorted, stored as they are, and have one time.  Its manifest tells both: the SHA-256 of the sources
and the version.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

HERE = Path(__file__).parent
JAR = HERE.parent / "mms_handler" / "plugins" / "mms_handler.jar"
SERVICES = "META-INF/services/software.amazon.ai.mms.servingsdk.ModelServerEndpoint"


def javac() -> str | None:
    """The compiler of JAVA_HOME, or else of the PATH."""
    home = os.environ.get("JAVA_HOME")
    return (shutil.which("javac", path=f"{home}/bin") if home else None) or shutil.which("javac")


def major(compiler: str) -> int:
    """8 of "javac 1.8.0_392", 17 of "javac 17.0.15"."""
    text = subprocess.run(
        [compiler, "-version"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=True
    ).stdout.decode()
    found = re.search(r"javac (?:1\.)?(\d+)", text)
    if found is None:
        sys.exit(f"{compiler} -version says {text!r}, not its version")
    return int(found.group(1))


def sources() -> dict[str, bytes]:
    """What goes into the jar, by its name from here: Java's files, and the list of endpoints."""
    names = [path.relative_to(HERE).as_posix() for path in HERE.glob("mms_handler/*.java")]
    return {name: (HERE / name).read_bytes() for name in sorted([SERVICES, *names])}


def sources_hash() -> str:
    """The SHA-256, in hexadecimal, of all sources and their names."""
    digest = hashlib.sha256()
    for name, content in sources().items():
        digest.update(f"{name} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def manifest(version: int) -> bytes:
    """MANIFEST.MF; its lines have 72 bytes at most, so the sum's two halves are two lines."""
    sum_ = sources_hash()
    lines = ["Manifest-Version: 1.0", f"Javac: {version}", f"Sources: {sum_[:32]}", f" {sum_[32:]}"]
    return "".join(f"{line}\r\n" for line in [*lines, ""]).encode()


def compiled(compiler: str, version: int, folder: Path) -> dict[str, bytes]:
    """The classes, by their names in the jar, built with every warning an error."""
    target = ["--release", "8"] if version > 8 else ["-source", "8", "-target", "8"]
    # Without -proc:none log4j's annotation processor, which is in MMS's jar, would run.
    # From 21 on, javac warns that 8 is old.
    checks = ["-Xlint:all,-options", "-Werror", "-proc:none", "-encoding", "UTF-8"]
    files = [str(HERE / name) for name in sources() if name.endswith(".java")]
    mms = importlib.util.find_spec("mms")
    if mms is None or mms.origin is None:
        sys.exit("multi-model-server is not installed for this Python: the plugin needs its jar")
    jar = Path(mms.origin).parent / "frontend" / "model-server.jar"
    command = [compiler, *target, *checks, "-cp", str(jar), "-d", str(folder), *files]
    if subprocess.run(command).returncode:
        sys.exit("the plugin does not compile")
    found = folder.rglob("*.class")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def build(output: Path) -> None:
    """Write the jar; exits with a sentence where it cannot."""
    compiler = javac()
    if compiler is None:
        sys.exit("no javac found: install a JDK of 8 or later and set JAVA_HOME or PATH")
    version = major(compiler)
    with tempfile.TemporaryDirectory() as folder:
        members = compiled(compiler, version, Path(folder))
    members[SERVICES] = sources()[SERVICES]
    listed = [("META-INF/MANIFEST.MF", manifest(version)), *sorted(members.items())]
    output.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(output, "w") as jar:
        for name, content in listed:
            entry = zipfile.ZipInfo(name)  # of 1980-01-01, and stored
            entry.create_system, entry.external_attr = 3, 0o644 << 16
            jar.writestr(entry, content)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=JAR, help="where to; the package's jar")
    build(parser.parse_args().output)
