"""Build mms_handler/plugins/mms_handler.jar from the sources beside this file.

The same sources and the same major version of javac give the same bytes: the jar's members are
sorted, not compressed, and all have the same time.  Its manifest has the SHA-256 of the sources and
the version of javac.
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
    """The compiler of JAVA_HOME, else of the PATH; None if there is none."""
    home = os.environ.get("JAVA_HOME")
    return (shutil.which("javac", path=f"{home}/bin") if home else None) or shutil.which("javac")


def major(compiler: str) -> int:
    """The major version of a compiler: 8 for javac 1.8.0_392, 17 for javac 17.0.15."""
    text = subprocess.run(
        [compiler, "-version"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=True
    ).stdout.decode()
    match = re.search(r"javac (?:1\.)?(\d+)", text)
    if match is None:
        sys.exit(f"{compiler} -version printed {text!r}, which has no version")
    return int(match.group(1))


def sources() -> dict[str, bytes]:
    """The Java sources and the list of endpoints, by their paths from this folder."""
    names = [path.relative_to(HERE).as_posix() for path in HERE.glob("mms_handler/*.java")]
    return {name: (HERE / name).read_bytes() for name in sorted([SERVICES, *names])}


def sources_hash() -> str:
    """The SHA-256 of all sources and their names, in hexadecimal."""
    digest = hashlib.sha256()
    for name, content in sources().items():
        digest.update(f"{name} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def manifest(version: int) -> bytes:
    """MANIFEST.MF.  Its lines have at most 72 bytes, so the hash takes two."""
    digest = sources_hash()
    hash_lines = [f"Sources: {digest[:32]}", f" {digest[32:]}"]
    lines = ["Manifest-Version: 1.0", f"Javac: {version}", *hash_lines]
    return "".join(f"{line}\r\n" for line in [*lines, ""]).encode()


def compiled(compiler: str, version: int, folder: Path) -> dict[str, bytes]:
    """The classes by their paths in the jar; every warning of javac is an error."""
    target = ["--release", "8"] if version > 8 else ["-source", "8", "-target", "8"]
    # -proc:none keeps log4j's annotation processor, which is in MMS's jar, from running.
    # -options is for javac from 21 on, which warns that 8 is old.
    checks = ["-Xlint:all,-options", "-Werror", "-proc:none", "-encoding", "UTF-8"]
    files = [str(HERE / name) for name in sources() if name.endswith(".java")]
    mms = importlib.util.find_spec("mms")
    if mms is None or mms.origin is None:
        sys.exit("this Python has no multi-model-server, whose jar the plug-in needs")
    jar = Path(mms.origin).parent / "frontend" / "model-server.jar"
    command = [compiler, *target, *checks, "-cp", str(jar), "-d", str(folder), *files]
    if subprocess.run(command).returncode:
        sys.exit("the plug-in does not compile; see the errors above")
    classes = folder.rglob("*.class")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in classes}


def build(output: Path) -> None:
    """Write the jar; exit with a message if that is impossible."""
    compiler = javac()
    if compiler is None:
        sys.exit("no javac found: install a JDK, version 8 or later, and set JAVA_HOME or PATH")
    version = major(compiler)
    with tempfile.TemporaryDirectory() as folder:
        members = compiled(compiler, version, Path(folder))
    members[SERVICES] = sources()[SERVICES]
    entries = [("META-INF/MANIFEST.MF", manifest(version)), *sorted(members.items())]
    output.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(output, "w") as jar:
        for name, content in entries:
            entry = zipfile.ZipInfo(name)  # dated 1980-01-01, not compressed
            entry.create_system, entry.external_attr = 3, 0o644 << 16
            jar.writestr(entry, content)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--output", type=Path, default=JAR, help="the file to write  [default: the package's jar]"
    )
    build(parser.parse_args().output)
