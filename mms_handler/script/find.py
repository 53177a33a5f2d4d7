"""Find the user's script in a model_dir."""

from __future__ import annotations

from pathlib import Path
from typing import Iterable

from mms_handler.errors import ScriptError


def find_script(model_dir: Path, *programs: str | None) -> Path | None:
    """The script of a model_dir: in ``code/`` where there is one, else beside the artifacts.

    Args:
        model_dir: folder with artifacts and perhaps ``code/``.
        programs: SAGEMAKER_PROGRAM, what the archive calls it: names relative to the folder, of
            which each counts if it is there.

    Returns:
        The first of ``programs``, else ``inference.py``, else the only .py file; None where
        there is none.

    Raises:
        ScriptError: several files, and none is named as the script; or packages alone.
    """
    folder = model_dir / "code" if (model_dir / "code").is_dir() else model_dir
    files = [p.relative_to(folder).as_posix() for p in folder.rglob("*.py") if p.is_file()]
    if folder == model_dir:  # what lies deeper is not ours to judge
        files = [name for name in files if "/" not in name or name in programs]
    name = choose_script(files, *programs)
    return folder / name if name else None


def choose_script(files: Iterable[str], *programs: str | None) -> str | None:
    """The script among ``files``, given relative to the folder it is looked for in.

    Raises:
        ScriptError: several could be it, and none is named as it; or none lies at the top.
    """
    every = sorted(name for name in files if name.endswith(".py"))
    for name in (*programs, "inference.py"):
        if name in every:
            return name
    found = [name for name in every if "/" not in name]
    own = [name for name in every if not name.startswith(("lib/", "wheels/"))]
    if own and not found:
        raise ScriptError(
            f"no .py file at the top of the code could be the script; there are "
            f"{', '.join(own)[:200]}; name one in SAGEMAKER_PROGRAM"
        )
    if len(found) > 1:
        raise ScriptError(
            f"which file is the script? {', '.join(found)}; "
            "call it inference.py, or name it in SAGEMAKER_PROGRAM"
        )
    return found[0] if found else None
