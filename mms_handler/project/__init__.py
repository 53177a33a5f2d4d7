"""Write the files of a new project: a script, data to train it with, a sample request, a test."""

from __future__ import annotations

from pathlib import Path

from mms_handler.errors import ProjectError
from mms_handler.names import check_name

#: The kinds of scripts, each with its template.
KINDS = ("gluon", "module", "transform")

_TEMPLATES = Path(__file__).parent / "templates"

#: The other files by their names in the project, each with its template.
_FILES = {
    ".gitignore": "gitignore",
    "README.md": "README.md",
    "data/fruit.csv": "fruit.csv",
    "sample.csv": "sample.csv",
    "test_inference.py": "test_inference.py",
}


def create(folder: Path, kind: str = "gluon") -> list[str]:
    """Write a project that trains, answers and can be packed as it is.

    Args:
        folder: it must not exist, or be empty; its name is the model's.
        kind: one of KINDS.

    Returns:
        The commands to run in the folder, in their order.

    Raises:
        ArchiveError: the folder's name is not a valid model name.
        ProjectError: the folder has files, or the kind is unknown.
    """
    name = check_name(folder.resolve().name)
    if kind not in KINDS:
        raise ProjectError(f"{kind!r} is not a kind of script; choose one of {', '.join(KINDS)}")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ProjectError(f"{folder} exists and is not empty; choose another name")
    commands = _commands(name)
    for file, template in {"code/inference.py": f"{kind}.py", **_FILES}.items():
        text = (_TEMPLATES / template).read_text("utf-8")
        if template == "README.md":
            shown = "\n".join(f"$ {command}" for command in commands)
            text = text.replace("NAME", name).replace("COMMANDS", shown)
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    return commands


def _commands(name: str) -> list[str]:
    return [
        "mms-handler train --entry-point code/inference.py --channel train=data",
        "mms-handler run model sample.csv --script code",
        "mms-handler check model --script code --sample sample.csv",
        "python -m pytest",
        f"mms-handler archive model --script code --name {name} --sample sample.csv --force",
        f"mms-handler serve model_archives/{name}.mar",
        f"mms-handler invoke {name} sample.csv",
    ]
