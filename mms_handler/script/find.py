"""Find the user's script in a model_dir."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Iterable

from mms_handler.errors import ScriptError


def find_script(model_dir: Path, *programs: str | None) -> Path | None:
    """The script of a model_dir: in ``code/`` if that exists, else beside the artifacts.

    Args:
        model_dir: folder with artifacts and perhaps ``code/``.
        programs: names of the script, relative to its folder, in order of preference:
            SAGEMAKER_PROGRAM, then the archive's.

    Returns:
        The first of ``programs`` that exists, else ``inference.py``, else the only .py file;
        None if there is no script.

    Raises:
        ScriptError: several files could be the script and none is named, or all are in
            subfolders.
    """
    folder = model_dir / "code" if (model_dir / "code").is_dir() else model_dir
    files = [p.relative_to(folder).as_posix() for p in folder.rglob("*.py") if p.is_file()]
    if folder == model_dir:  # without code/, folders beside the artifacts may be anything
        files = [name for name in files if "/" not in name or name in programs]
    name = choose_script(files, *programs)
    return folder / name if name else None


def choose_script(files: Iterable[str], *programs: str | None) -> str | None:
    """The script among ``files``, which are relative to the script's folder.

    Args:
        files: names; hidden ones (macOS's ``._train.py``) and those that do not end in .py are
            ignored.
        programs: as for ``find_script``.

    Raises:
        ScriptError: as ``find_script``.
    """
    visible = [name for name in files if not PurePosixPath(name).name.startswith(".")]
    sources = sorted(name for name in visible if name.endswith(".py"))
    for name in (*programs, "inference.py"):
        if name in sources:
            return name
    candidates = [name for name in sources if "/" not in name]
    modules = [name for name in sources if not name.startswith(("lib/", "wheels/"))]
    if modules and not candidates:
        raise ScriptError(
            f"no .py file is at the top of the script's folder, only {', '.join(modules)[:200]}; "
            "name the script in SAGEMAKER_PROGRAM"
        )
    if len(candidates) > 1:
        raise ScriptError(
            f"several files could be the script: {', '.join(candidates)}; "
            "call it inference.py, or name it in SAGEMAKER_PROGRAM"
        )
    return candidates[0] if candidates else None
