"""Build orders.jar beside this file: the orders, and for each fault the classes that have it.

python -m tests.orders.build
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import mms

from tests.orders.faults import FAULTS, Fault

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
JAR = HERE / "orders.jar"
JAVA = ROOT / "java" / "mms_handler"
CLASSPATH = (
    ROOT / "mms_handler" / "plugins" / "mms_handler.jar",
    Path(mms.__file__).parent / "frontend" / "model-server.jar",
)


def folder_of(fault: Fault) -> str:
    """Where in the jar the classes with this fault are."""
    return f"faults/{fault.name.replace(' ', '-').replace(',', '')}"


def with_fault(fault: Fault) -> str:
    """The source with this fault."""
    text = (JAVA / f"{fault.source}.java").read_text()
    if text.count(fault.right) != 1:
        sys.exit(
            f"{fault.source}.java has not exactly one {fault.right!r}: see tests/orders/faults.py"
        )
    return text.replace(fault.right, fault.wrong)


def sources() -> dict[str, str]:
    """All that is compiled: the folder in the jar and the file's name, and the text."""
    texts = {f"{path.name}": path.read_text() for path in HERE.glob("mms_handler/*.java")}
    return {
        **texts,
        **{f"{folder_of(fault)}/{fault.source}.java": with_fault(fault) for fault in FAULTS},
    }


def sources_hash() -> str:
    """The SHA-256 of all of it, in hexadecimal."""
    lines = [
        f"{name} {hashlib.sha256(text.encode()).hexdigest()}\n" for name, text in sources().items()
    ]
    return hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()


def _compile(name: str, files: dict[str, str]) -> dict[str, bytes]:
    """Compile files; returns the classes by their paths in the jar."""
    with tempfile.TemporaryDirectory() as path:
        folder = Path(path)
        for file, text in files.items():
            (folder / file).write_text(text)
        paths = ":".join(map(str, CLASSPATH))
        command = ["javac", "--release", "8", "-Xlint:-options", "-proc:none", "-cp", paths]
        java = [str(folder / file) for file in files]
        if subprocess.run([*command, "-d", str(folder / "classes"), *java]).returncode:
            sys.exit(f"{name} does not compile; see the errors above")
        return {
            f"{name}/{path.relative_to(folder / 'classes')}": path.read_bytes()
            for path in (folder / "classes").rglob("*.class")
        }


def build() -> None:
    """Write the jar; the same compiler and sources give the same bytes."""
    members = _compile("orders", {p.name: p.read_text() for p in HERE.glob("mms_handler/*.java")})
    for fault in FAULTS:
        members.update(_compile(folder_of(fault), {f"{fault.source}.java": with_fault(fault)}))
    members["sources"] = sources_hash().encode()
    with zipfile.ZipFile(JAR, "w", zipfile.ZIP_DEFLATED) as jar:
        for name, content in sorted(members.items()):
            jar.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)


if __name__ == "__main__":
    build()
