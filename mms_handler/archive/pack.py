"""Pack a model_dir and its script as ``.mar``, the archive that MMS serves.

    model_dir, script ──contents──▶ files ──write──▶ entries ──trial──▶ sample's reply ──▶ .mar
                                             └── hashes ──────────────────── manifest ──┘

The same files give the same bytes: entries are sorted, and all carry the same time.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Callable, Iterator, Mapping, Optional

from mms_handler import manifest, names
from mms_handler.archive import files, handlers, safety, samples, sbom, signing, tars, zips
from mms_handler.archive.quantize import Int8Graph
from mms_handler.archive.samples import SampleRequest, Tried
from mms_handler.archive.twin import OnnxTwin
from mms_handler.errors import ArchiveError, ScriptError
from mms_handler.manifest import INT8, MANIFEST, PARTS, TWIN
from mms_handler.names import check_version
from mms_handler.script.find import choose_script
from mms_handler.script.frames import write_sources
from mms_handler.script.requirements import REQUIREMENTS, lines_of

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

_TIME = (1980, 1, 1, 0, 0, 0)  # of every entry: the earliest time that a zip can hold
_LEFT_OUT = {"__pycache__", "__MACOSX", "MAR-INF"}
_STORED = {".params", ".onnx", ".npy", ".npz", ".png", ".jpg", ".jpeg", ".gz", ".zip", ".whl"}
_CHUNK = 2**20  # bytes

#: Called with the model in a folder, as MMS would unpack it, and with the sample request.  Returns
#: what there is to pack.  Raises if the model must not be packed.
Trial = Callable[[Path, Optional[SampleRequest]], Tried]

#: Called with the same folder.  Returns the int8 graph to pack, or raises.
Quantizer = Callable[[Path], Int8Graph]

#: Called with the same folder, and with the sample request that the model has answered.  Returns
#: the ONNX twin to pack, or raises.
TwinMaker = Callable[[Path, Optional[SampleRequest]], OnnxTwin]


def pack(
    model_dir: Path,
    target: Path,
    *,
    code: Path | None = None,
    program: str | None = None,
    version: str | None = None,
    sample: Path | None = None,
    content_type: str | None = None,
    accept: str = "*/*",
    force: bool = False,
    progress: Callable[[int], None] = lambda count: None,
    trial: Trial | None = None,
    quantizer: Quantizer | None = None,
    key: Ed25519PrivateKey | None = None,
    twin_maker: TwinMaker | None = None,
) -> Path:
    """Write the archive of a model.

    Args:
        model_dir: folder with the artifacts, and the script in ``code/`` if it has one.
        target: the ``.mar`` to write; its stem is the model's name.
        code: a script, or a folder with one, to pack instead of model_dir's ``code/``.
        program: the script's name in the code's folder, needed if several files could be the
            script; the manifest records it.
        version: the model's; None: a server gives it a number.
        sample: a file with a sample request; None: zeros in the shapes that the default save
            wrote, if there are any.
        content_type: the sample's; None: from its suffix.
        accept: the sample's Accept.
        force: replace ``target`` if it exists.
        progress: called with the bytes of each chunk that is packed.
        trial: called before the archive is complete; ``check.try_sample`` loads the model.
        quantizer: called before ``trial`` to make the int8 graph, with ``quantize.quantize``;
            None packs none.
        key: signs the archive; None: it is not signed.
        twin_maker: called after ``trial`` to make the ONNX twin, with ``twin.make_twin``; None
            packs none.

    Returns:
        ``target``.

    Raises:
        ArchiveError: there is nothing to pack, there is a link, the name is not valid, ``target``
            exists, or the trial failed.  ``target`` is then unchanged.
        ScriptError: several files could be the script.
        BadInput: ``version`` cannot be one.
    """
    if version is not None:
        check_version(version)
    files.check_free(target, force)
    packed = contents(model_dir, code)
    request = samples.from_file(sample, content_type, accept) if sample else samples.zeros(packed)
    return write(
        packed,
        target,
        program=program,
        version=version,
        request=request,
        force=force,
        progress=progress,
        trial=trial,
        quantizer=quantizer,
        key=key,
        twin_maker=twin_maker,
    )


def pack_tar(model_dir: Path, target: Path, *, code: Path | None = None) -> Path:
    """Write the files that ``pack`` packs as a model.tar.gz of SageMaker: artifacts and code/.

    ``target`` is replaced if it exists.

    Raises:
        ArchiveError: as ``contents``.
    """
    return tars.write(contents(model_dir, code), target, force=True)


def contents(model_dir: Path, code: Path | None = None) -> dict[str, Path]:
    """The files of ``model_dir`` that are packed, by their names in the archive.

    Hidden files and folders (``.env``, ``.git``), compiled Python and other archives are left out.

    Args:
        model_dir: folder with the artifacts.
        code: as for ``pack``.

    Raises:
        ArchiveError: a folder does not exist or is empty, or there is a link, a device or a pipe.
    """
    if not model_dir.is_dir():
        raise ArchiveError(f"there is no folder {model_dir}")
    packed = files.walk(model_dir, _belongs)
    packed = packed if code is None else with_code(packed, code_files(code))
    if not packed:
        raise ArchiveError(f"{model_dir} has no files to pack")
    return packed


def code_files(code: Path) -> dict[str, Path]:
    """A script, or the files of a script's folder that are packed, by name.

    Raises:
        ArchiveError: as ``contents``.
    """
    if not code.exists():
        raise ArchiveError(f"{code} does not exist")
    return files.walk(code, _belongs) if code.is_dir() else {code.name: code}


def with_code(packed: Mapping[str, Path], code: Mapping[str, Path]) -> dict[str, Path]:
    """``packed`` with ``code`` instead of its own ``code/``."""
    artifacts = {name: path for name, path in packed.items() if not name.startswith("code/")}
    return {**artifacts, **{f"code/{name}": path for name, path in code.items()}}


def _belongs(path: Path) -> bool:
    return not (
        path.name.startswith(".") or path.name in _LEFT_OUT or path.suffix in (".pyc", ".mar")
    )


def entries(
    model_dir: Path, name: str, *, code: Path | None = None, program: str | None = None
) -> dict[str, bytes | Path]:
    """The entries that the archive of ``model_dir`` would have, for a folder of links.

    A folder that model-archiver wrote (``no-archive``) keeps the handler of its manifest.

    Returns:
        By name: the path of a file, or the bytes of the manifest or the sample.

    Raises:
        ArchiveError, ScriptError: as ``pack``.
    """
    packed = contents(model_dir, code)
    handler = manifest.foreign_handler(model_dir)
    if handler:
        handlers.check_handler(handler, packed)
        return {**packed, MANIFEST: manifest.encode(name, None, handler=handler)}
    request = samples.zeros(packed)
    sample = {request.entry.name: request.body} if request else {}
    encoded = manifest.encode(
        name, script_of(packed, program), sample=request.entry if request else None
    )
    return {**packed, **sample, MANIFEST: encoded}


def script_of(packed: Mapping[str, Path], program: str | None) -> str | None:
    """The script that a worker will find among the files, relative to its folder.

    Raises:
        ScriptError: several files could be the script.
    """
    code = [name[5:] for name in packed if name.startswith("code/")]
    return choose_script(code or [name for name in packed if "/" not in name], program)


# --- writing ---------------------------------------------------------------------------------


def write(
    packed: Mapping[str, Path],
    target: Path,
    *,
    program: str | None = None,
    version: str | None = None,
    request: SampleRequest | None = None,
    handler: str | None = None,
    force: bool = False,
    progress: Callable[[int], None] = lambda count: None,
    trial: Trial | None = None,
    quantizer: Quantizer | None = None,
    key: Ed25519PrivateKey | None = None,
    twin_maker: TwinMaker | None = None,
) -> Path:
    """Write an archive of ``packed``, its files by their names in it.  See also ``pack``.

    ``handler`` is another package's or the archive's own, which needs no script.
    """
    name = names.check_name(target.stem)
    for inner in packed:
        safety.check_entry_name(inner)
    if handler:
        handlers.check_handler(handler, packed)
    script = None if handler else script_of(packed, program)
    int8: Int8Graph | None = None
    twin: OnnxTwin | None = None
    tried = Tried(request)
    with files.replacing(target, force) as partial:
        with zipfile.ZipFile(partial, "w") as mar:
            hashes = {inner: _add(mar, inner, packed[inner], progress) for inner in sorted(packed)}
        if trial or quantizer or twin_maker:
            with _unpacked(partial, manifest.encode(name, script), name) as folder:
                sources = {inner: path.resolve() for inner, path in packed.items()}
                write_sources(folder, {"": name, **sources})
                # The quantizer is first, because its errors name the file of a failing request.
                int8 = quantizer(folder) if quantizer else None
                tried = trial(folder, request) if trial else tried
                twin = twin_maker(folder, tried.request) if twin_maker else None
        with zipfile.ZipFile(partial, "a") as mar:
            if tried.request:
                name_of_sample = tried.request.entry.name
                hashes[name_of_sample] = _add(mar, name_of_sample, tried.request.body)
            if int8:
                hashes[INT8] = _add(mar, INT8, int8.symbol)
            if twin:
                hashes[TWIN] = _add(mar, TWIN, twin.content)
            requirements = _requirements(packed)
            bill = sbom.encode(name, version, hashes, manifest.packages(), requirements)
            hashes[PARTS] = _add(mar, PARTS, bill)
            encoded = manifest.encode(
                name,
                script,
                hashes,
                tried.request.entry if tried.request else None,
                int8.entry if int8 else None,
                handler or manifest.HANDLER,
                version,
                tried.schema,
                PARTS,
                twin.entry if twin else None,
            )
            _add(mar, MANIFEST, encoded)
        zips.size(partial)  # raises if unpack would refuse the list of entries
        if key:
            signing.sign_in_place(partial, key)
    return target


def _requirements(packed: Mapping[str, Path]) -> list[str]:
    """The lines of the script's requirements.txt, which lies beside it."""
    has_code = any(name.startswith("code/") for name in packed)
    path = packed.get(f"code/{REQUIREMENTS}" if has_code else REQUIREMENTS)
    try:
        return lines_of(path) if path else []
    except ScriptError:  # it cannot be installed, which is said when the model is loaded
        return []


@contextlib.contextmanager
def _unpacked(partial: Path, encoded_manifest: bytes, name: str) -> Iterator[Path]:
    """Unpack an archive that has no manifest yet into a scratch folder called ``name``."""
    with tempfile.TemporaryDirectory(prefix="mms-handler-") as scratch:
        folder = Path(scratch) / name
        with zipfile.ZipFile(partial) as mar:
            mar.extractall(folder)
        (folder / MANIFEST).parent.mkdir(parents=True)
        (folder / MANIFEST).write_bytes(encoded_manifest)
        yield folder


def _add(
    mar: zipfile.ZipFile,
    name: str,
    source: bytes | Path,
    progress: Callable[[int], None] = lambda count: None,
) -> str:
    """Write one entry and return its SHA-256."""
    size = len(source) if isinstance(source, bytes) else source.stat().st_size
    entry = zipfile.ZipInfo(name, _TIME)
    # Compression makes weights slower, but no smaller; and a large file that shrinks a lot would be
    # taken for a bomb.
    stored = Path(name).suffix.lower() in _STORED or size > safety.ANY_RATIO_BYTES
    entry.compress_type = zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED
    entry.external_attr = 0o100644 << 16
    entry.file_size = size  # by which zipfile decides on zip64 before the first byte
    digest = hashlib.sha256()
    opened = io.BytesIO(source) if isinstance(source, bytes) else source.open("rb")
    with opened as data, mar.open(entry, "w") as out:
        while chunk := data.read(_CHUNK):
            out.write(chunk)
            digest.update(chunk)
            progress(len(chunk))
    return digest.hexdigest()
