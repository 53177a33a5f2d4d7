"""The days on which files were last changed, from git."""

from __future__ import annotations

import subprocess
from pathlib import Path


def last_changes(root: Path) -> dict[str, str]:
    """The day of the last commit that changed a file, as YYYY-MM-DD, by the file's path.

    Empty where git does not know all commits: in a shallow clone the last one would seem to have
    changed everything.  Likewise without git, and where ``root`` is not a repository of its own.
    """

    def git(*words: str) -> str:
        command = ("git", "-c", "core.quotePath=off", *words)
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
        return done.stdout

    try:
        if git("rev-parse", "--is-shallow-repository", "--show-prefix").split() != ["false"]:
            return {}
        commits = git("log", "--format=%x00%cs", "--name-only").split("\0")
    except (OSError, subprocess.CalledProcessError):
        return {}
    days: dict[str, str] = {}
    for commit in commits[1:]:
        day, *names = filter(None, commit.split("\n"))
        for name in names:
            days.setdefault(name, day)
    return days
