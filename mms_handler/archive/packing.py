"""Pack a model_dir and its script as ``.mar``, the archive that MMS serves.

    model_dir, script ──contents──▶ files ──write──▶ entries ──trial──▶ sample's reply ──▶ .mar
                                             └── hashes ──────────────────── manifest ──┘

The same files give the same bytes: entries are sorted and carry one fixed time.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import math
import tempfile
import zipfile
from pathlib import Path
from typing import Any, Callable, Iterator, Mapping, NamedTuple, Optional, Sequence

from mms_handler import manifest, media
from mms_handler.archive import files, safety, zips
from mms_handler.archive.quantizing import Int8
from mms_handler.errors import ArchiveError
from mms_handler.manifest import INT8, MANIFEST, SAMPLE, Sample
from mms_handler.script.find import choose_script

_OLDEST = (1980, 1, 1, 0, 0, 0)  # the first time a zip entry can carry
_NEVER = {"__pycache__", "__MACOSX", "MAR-INF"}
_STORED = {".params", ".npy", ".npz", ".png", ".jpg", ".jpeg", ".gz", ".zip", ".whl"}
_CHUNK = 2**20  # bytes
_JSON = "application/json"

#: Values of the largest sample that is made up.
_MOST = 1_000_000


class Request(NamedTuple):
    """A request to keep in an archive."""

    sample: Sample  # what the manifest says of it
    body: bytes
    made_up: bool = False


#: Told the folder that MMS would unpack, and the request to keep; gives it with its reply, or None
#: where it is not worth keeping; raises where the model should not be packed.
Trial = Callable[[Path, Optional[Request]], Optional[Request]]

#: Told the same folder; gives the int8 graph to keep, or raises.
Quantizer = Callable[[Path], Int8]


def pack(
    model_dir: Path,
    target: Path,
    *,
    code: Path | None = None,
    program: str | None = None,
    sample: Path | None = None,
    content_type: str | None = None,
    accept: str = "*/*",
    force: bool = False,
    progress: Callable[[int], None] = lambda count: None,
    trial: Trial | None = None,
    quantizer: Quantizer | None = None,
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
        content_type: the sample's; None: as its suffix says.
        accept: what the sample asks for.
        force: replace ``target`` if it is there.
        progress: told the bytes of each piece that is in the archive.
        trial: asked before the archive has its name; ``checking.trial`` loads the model.
        quantizer: asked before that, if an int8 graph is to be kept; as ``quantizing.quantize``.

    Returns:
        ``target``.

    Raises:
        ArchiveError: nothing to pack, a link, a name MMS cannot take, ``target`` is there, or
            the trial failed; ``target`` is as it was then.
        ScriptError: the script cannot be told among several files.
    """
    files.check_free(target, force)
    found = contents(model_dir, code)
    request = _given(sample, content_type, accept) if sample else made_up(found)
    return write(
        found,
        target,
        program=program,
        request=request,
        force=force,
        progress=progress,
        trial=trial,
        quantizer=quantizer,
    )


def contents(model_dir: Path, code: Path | None = None) -> dict[str, Path]:
    """What belongs into the archive of ``model_dir``: name inside to file outside.

    Left out: hidden files and folders (``.env``, ``.git``), compiled Python, other archives.

    Raises:
        ArchiveError: a folder is not there, nothing is in it, or something is a link, a device
            or a pipe.
    """
    if not model_dir.is_dir():
        raise ArchiveError(f"there is no folder {model_dir}")
    found = files.walk(model_dir, _belongs)
    found = found if code is None else with_code(found, code_of(code))
    if not found:
        raise ArchiveError(f"{model_dir} has no files to pack")
    return found


def code_of(code: Path) -> dict[str, Path]:
    """The script that is ``code``, or all that its folder has.

    Raises:
        ArchiveError: as ``contents``.
    """
    if not code.exists():
        raise ArchiveError(f"there is no {code}")
    return files.walk(code, _belongs) if code.is_dir() else {code.name: code}


def with_code(found: Mapping[str, Path], code: Mapping[str, Path]) -> dict[str, Path]:
    """``found`` with ``code`` in the place of its own ``code/``."""
    artifacts = {name: path for name, path in found.items() if not name.startswith("code/")}
    return {**artifacts, **{f"code/{name}": path for name, path in code.items()}}


def _belongs(path: Path) -> bool:
    return not (path.name.startswith(".") or path.name in _NEVER or path.suffix in (".pyc", ".mar"))


def entries(
    model_dir: Path, name: str, *, code: Path | None = None, program: str | None = None
) -> dict[str, bytes | Path]:
    """What MMS would find if the archive of ``model_dir`` were unpacked: for a folder of links.

    Raises:
        ArchiveError, ScriptError: as ``pack``.
    """
    found = contents(model_dir, code)
    request = made_up(found)
    told = manifest.written(
        name, script_of(found, program), sample=request.sample if request else None
    )
    own = {request.sample.name: request.body} if request else {}
    return {**found, **own, MANIFEST: told}


def script_of(found: Mapping[str, Path], program: str | None) -> str | None:
    """The script that the worker will find; raises what it would raise."""
    code = [name[5:] for name in found if name.startswith("code/")]
    return choose_script(code or [name for name in found if "/" not in name], program)


# --- samples ---------------------------------------------------------------------------------


def _given(sample: Path, content_type: str | None, accept: str) -> Request:
    kind = content_type or media.type_of_file(sample)
    name = SAMPLE + (sample.suffix.lower() or ".bin")
    return Request(Sample(name, kind, accept), sample.read_bytes())


def made_up(found: Mapping[str, Path]) -> Request | None:
    """Zeros for each input of the default save among ``found``; None without one.

    Raises:
        ArchiveError: what the default save left is not what it writes.
    """
    shapes = found.get("model-shapes.json")
    if not shapes:
        return None
    try:
        inputs = {one["name"]: [1, *one["shape"][1:]] for one in json.loads(shapes.read_text())}
        count = sum(map(math.prod, inputs.values()))
    except (ValueError, TypeError, KeyError) as exc:
        raise ArchiveError(f"{shapes} is not a list of names and shapes: {exc!r}") from exc
    if count > _MOST:
        return None
    body = {name: _zeros(shape) for name, shape in inputs.items()}
    text = json.dumps(body if len(body) > 1 else next(iter(body.values()), None))
    return Request(Sample(f"{SAMPLE}.json", _JSON, "*/*"), text.encode(), made_up=True)


def _zeros(shape: Sequence[int]) -> Any:
    return [_zeros(shape[1:]) for _ in range(shape[0])] if shape else 0


# --- writing ---------------------------------------------------------------------------------


def write(
    found: Mapping[str, Path],
    target: Path,
    *,
    program: str | None = None,
    request: Request | None = None,
    force: bool = False,
    progress: Callable[[int], None] = lambda count: None,
    trial: Trial | None = None,
    quantizer: Quantizer | None = None,
) -> Path:
    """Write an archive of ``found``: as ``pack``, of files wherever they are."""
    name = manifest.check_name(target.stem)
    for inner in found:
        safety.check_name(inner)
    chosen = script_of(found, program)
    int8: Int8 | None = None
    with files.whole(target, force) as partial:
        with zipfile.ZipFile(partial, "w") as mar:
            hashes = {inner: _add(mar, inner, found[inner], progress) for inner in sorted(found)}
        if trial or quantizer:
            with _unpacked(partial, manifest.written(name, chosen), name) as folder:
                int8 = quantizer(folder) if quantizer else None  # it names the file that fails
                request = trial(folder, request) if trial else request
        with zipfile.ZipFile(partial, "a") as mar:
            if request:
                hashes[request.sample.name] = _add(mar, request.sample.name, request.body)
            if int8:
                hashes[INT8] = _add(mar, INT8, int8.symbol)
            sample, told = request.sample if request else None, int8.told if int8 else None
            _add(mar, MANIFEST, manifest.written(name, chosen, hashes, sample, told))
        zips.size(partial)  # refuses what we would refuse to unpack
    return target


@contextlib.contextmanager
def _unpacked(partial: Path, told: bytes, name: str) -> Iterator[Path]:
    """The folder of what is packed so far, unpacked again."""
    with tempfile.TemporaryDirectory(prefix="mms-handler-") as scratch:
        folder = Path(scratch) / name
        with zipfile.ZipFile(partial) as mar:
            mar.extractall(folder)
        (folder / MANIFEST).parent.mkdir(parents=True)
        (folder / MANIFEST).write_bytes(told)
        yield folder


def _add(
    mar: zipfile.ZipFile,
    name: str,
    source: bytes | Path,
    progress: Callable[[int], None] = lambda count: None,
) -> str:
    """Write one entry; gives the SHA-256 of what was written."""
    size = len(source) if isinstance(source, bytes) else source.stat().st_size
    entry = zipfile.ZipInfo(name, _OLDEST)
    # Weights do not get smaller, only slower; and what is large may look like a bomb if it does.
    stored = Path(name).suffix.lower() in _STORED or size > safety.ANY_RATIO_BYTES
    entry.compress_type = zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED
    entry.external_attr = 0o100644 << 16
    entry.file_size = size  # decides on zip64 before the first byte
    digest = hashlib.sha256()
    opened = io.BytesIO(source) if isinstance(source, bytes) else source.open("rb")
    with opened as data, mar.open(entry, "w") as out:
        while chunk := data.read(_CHUNK):
            out.write(chunk)
            digest.update(chunk)
            progress(len(chunk))
    return digest.hexdigest()
