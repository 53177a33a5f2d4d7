"""Check a model_dir and its script, and pack them as ``.mar``, the archive that MMS serves.

The same files give the same bytes: entries are sorted and carry one fixed time.
"""

from __future__ import annotations

import gzip
import json
import math
import os
import re
import stat
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path
from typing import Any, Callable, Iterator, Sequence

from mms_handler import client, script
from mms_handler.errors import ArchiveError

HANDLER = "mms_handler.service:handle"
MANIFEST = "MAR-INF/MANIFEST.json"
SAMPLE = "MAR-INF/sample"  # with a suffix that tells its type

#: What MMS can address in a URL and the worker's command line can take (``-rf`` it cannot).
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")

_OLDEST = (1980, 1, 1, 0, 0, 0)  # the first time a zip entry can carry
_NEVER = {"__pycache__", "__MACOSX", "MAR-INF"}
_STORED = {".params", ".npy", ".npz", ".png", ".jpg", ".jpeg", ".gz", ".zip", ".whl"}


def check_name(name: str) -> str:
    """``name`` if it can name a model.

    Raises:
        ArchiveError: it cannot; says what can.
    """
    if not NAME.fullmatch(name):
        raise ArchiveError(
            f"{name!r} cannot name a model: letters, digits, '_', '.' and '-' can, "
            "and the first is a letter or digit"
        )
    return name


def pack(
    model_dir: Path,
    target: Path,
    *,
    code: Path | None = None,
    program: str | None = None,
    sample: Path | None = None,
    force: bool = False,
    packed: Callable[[str], None] = lambda name: None,
) -> Path:
    """Write the archive of a model.

    Args:
        model_dir: folder with the artifacts, and the script in ``code/`` if it has one.
        target: the ``.mar`` to write; its stem is the model's name.
        code: a script, or a folder with one, that takes the place of model_dir's ``code/``.
        program: the script's name in the code's folder, if several files could be it; it is
            kept in the archive.
        sample: a request, kept for ``check``; None: zeros of the shapes of the default save,
            where it left some.
        force: replace ``target`` if it is there.
        packed: called with each name when it is in the archive.

    Returns:
        ``target``.

    Raises:
        ArchiveError: nothing to pack, a link, a name MMS cannot take, or ``target`` is there.
        ScriptError: the script cannot be told among several files.
    """
    name = check_name(target.stem)
    if target.exists() and not force:
        raise ArchiveError(f"{target} is there already; --force replaces it")
    files = contents(model_dir, code)
    if not files:
        raise ArchiveError(f"{model_dir} has no files to pack")
    chosen = _script_of(files, program)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.partial")
    try:
        with zipfile.ZipFile(partial, "w") as archive:
            _write(archive, MANIFEST, json.dumps(_manifest(name, chosen), indent=2).encode())
            for inner, source in (*_sample(sample, model_dir), *sorted(files.items())):
                _write(archive, inner, source)
                packed(inner)
        os.replace(partial, target)
    finally:
        if partial.exists():
            partial.unlink()
    return target


def contents(model_dir: Path, code: Path | None = None) -> dict[str, Path]:
    """What belongs into the archive of ``model_dir``: name inside to file outside.

    Left out: hidden files and folders (``.env``, ``.git``), compiled Python, other archives.

    Raises:
        ArchiveError: a folder is not there, or something is a link.
    """
    if not model_dir.is_dir():
        raise ArchiveError(f"there is no folder {model_dir}")
    files = {name: path for name, path in _walk(model_dir)}
    if code is None:
        return files
    if not code.exists():
        raise ArchiveError(f"there is no {code}")
    files = {name: path for name, path in files.items() if not name.startswith("code/")}
    found = _walk(code) if code.is_dir() else [(code.name, code)]
    return {**files, **{f"code/{name}": path for name, path in found}}


def _walk(folder: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.name in _NEVER or path.suffix in (".pyc", ".mar"):
            continue
        if path.is_symlink():
            raise ArchiveError(f"{path} is a link; put the file itself there")
        if path.is_dir():
            yield from ((f"{path.name}/{name}", inner) for name, inner in _walk(path))
        elif path.is_file():
            yield path.name, path


#: Values of the largest sample that is made up.
_MOST = 1_000_000


def _sample(given: Path | None, model_dir: Path) -> list[tuple[str, bytes | Path]]:
    """The entry of a sample request: ``given``, or zeros for each input of the default save."""
    if given:
        return [(f"{SAMPLE}{given.suffix.lower()}", given)]
    shapes = model_dir / "model-shapes.json"
    if not shapes.is_file():
        return []
    try:
        inputs = {one["name"]: [1, *one["shape"][1:]] for one in json.loads(shapes.read_text())}
    except (ValueError, TypeError, KeyError) as exc:
        raise ArchiveError(f"{shapes} is not a list of names and shapes: {exc!r}") from exc
    if sum(map(math.prod, inputs.values())) > _MOST:
        return []
    body = {name: _zeros(shape) for name, shape in inputs.items()}
    text = json.dumps(body if len(body) > 1 else next(iter(body.values()), None))
    return [(f"{SAMPLE}.json", text.encode())]


def _zeros(shape: Sequence[int]) -> Any:
    return [_zeros(shape[1:]) for _ in range(shape[0])] if shape else 0


def pack_tar(model_dir: Path, target: Path, *, code: Path | None = None) -> Path:
    """Write the same files as SageMaker's model.tar.gz has them: artifacts, and code/.

    Raises:
        ArchiveError: as ``pack``.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.partial")
    with partial.open("wb") as out, gzip.GzipFile(
        "", "wb", fileobj=out, mtime=0
    ) as packed, tarfile.open(fileobj=packed, mode="w") as tar:
        for inner, path in sorted(contents(model_dir, code).items()):
            entry = tarfile.TarInfo(inner)
            entry.size = path.stat().st_size
            with path.open("rb") as data:
                tar.addfile(entry, data)
    os.replace(partial, target)
    return target


def _script_of(files: dict[str, Path], program: str | None) -> str | None:
    """The script that the worker will find; raises what it would raise."""
    code = [name[5:] for name in files if name.startswith("code/")]
    return script.choose(code or [name for name in files if "/" not in name], program)


def _manifest(name: str, chosen: str | None) -> dict[str, object]:
    model = {"modelName": name, "handler": HANDLER}
    return {
        "runtime": "python",
        "model": {**model, "script": chosen} if chosen else model,
        "modelServerVersion": "1.0",
        "implementationVersion": "1.0",
        "specificationVersion": "1.0",
    }


def _write(archive: zipfile.ZipFile, name: str, source: bytes | Path) -> None:
    entry = zipfile.ZipInfo(name, _OLDEST)
    stored = Path(name).suffix in _STORED  # weights do not get smaller, only slower
    entry.compress_type = zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED
    entry.external_attr = 0o644 << 16
    if isinstance(source, bytes):
        archive.writestr(entry, source)
        return
    entry.file_size = source.stat().st_size  # decides on zip64 before the first byte
    with source.open("rb") as data, archive.open(entry, "w") as out:
        while chunk := data.read(2**20):
            out.write(chunk)


# --- checking --------------------------------------------------------------------------------


def check(
    path: Path, sample: Path | None = None, content_type: str | None = None, accept: str = "*/*"
) -> dict[str, Any]:
    """What a worker would find in an archive or folder: it is loaded in a process of its own.

    Args:
        path: a ``.mar``, or a folder with a model and its script.
        sample: a request to answer; None: the one that was packed, if one was.
        content_type: what it is; None: as its suffix says.
        accept: what its reply should be.

    Returns:
        What ``loading.inspect`` does; ``error`` alone where the model would not load.

    Raises:
        ArchiveError: ``path`` is neither, must not be unpacked, or the process died.
    """
    with tempfile.TemporaryDirectory(prefix="mms-handler-") as scratch:
        folder = path.resolve()
        if path.is_file():
            folder = Path(scratch) / check_name(path.stem)
            unpack(path, folder)
        report = Path(scratch) / "report.json"
        sample = sample or next(iter(sorted((folder / SAMPLE).parent.glob("sample.*"))), None)
        kind = content_type or (client.content_type(sample) if sample else "")
        words = [str(sample.resolve()), kind, accept] if sample else []
        done = subprocess.run(
            [sys.executable, "-m", "mms_handler", "inspect", str(folder), str(report), *words],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr,
            check=False,
        )
        if not report.exists():
            return {"error": f"the process that loaded it ended with {done.returncode}"}
        found: dict[str, Any] = json.loads(report.read_text())
        return found


def unpack(path: Path, folder: Path) -> None:
    """Unpack an archive, if it is safe.

    Raises:
        ArchiveError: it is no archive, or an entry is a link or leads out of the folder.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                _check_entry(entry)
            archive.extractall(folder)
    except (zipfile.BadZipFile, OSError) as exc:
        raise ArchiveError(f"{path} is not an archive: {exc}") from exc


def _check_entry(entry: zipfile.ZipInfo) -> None:
    name = Path(entry.filename)
    if name.is_absolute() or ".." in name.parts or "\\" in entry.filename:
        raise ArchiveError(f"the entry {entry.filename!r} leads out of the archive's folder")
    if stat.S_ISLNK(entry.external_attr >> 16):
        raise ArchiveError(f"the entry {entry.filename!r} is a link")
