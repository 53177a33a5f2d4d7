"""The state of a job in a folder: whose job it is, and how far each of its outputs is."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any, Iterator, Mapping, Sequence

from mms_handler.errors import TransformError
from mms_handler.transform.inputs import Input
from mms_handler.transform.journal import Counts, Journal


class State:
    """A job's folder, for this process alone."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def check(self, facts: Mapping[str, str], inputs: Sequence[Input]) -> bool:
        """See that the folder has nothing of another job, and make it this one's.

        Args:
            facts: by name, what must be the same for two runs to be of one job.
            inputs: of the job.

        Returns:
            Whether an earlier run has done a part of the job.

        Raises:
            TransformError: it is another job's, or an input was changed; says what is different.
        """
        file = self._folder / "job.json"
        earlier = _read(file)
        if earlier is None or not self._has_done():
            _write(file, facts)
            return False
        differences = [
            f"{name} was {earlier.get(name, '')!r} and is {facts.get(name, '')!r}"
            for name in sorted({*earlier, *facts})
            if earlier.get(name) != facts.get(name)
        ]
        for each in inputs:
            then = _read(self._of(each) / "input.json")
            if then and then != _facts_of(each):
                differences.append(f"the input {each.name} was changed")
        if differences:
            raise TransformError(
                f"the output has a job that was not finished, and this one is another: "
                f"{'; '.join(differences[:5])}; run it with what it was begun with, or give "
                "--overwrite to begin anew"
            )
        return True

    def _has_done(self) -> bool:
        """Whether an earlier run has done any part."""
        if any(self._folder.glob("*/finished.json")) or any(self._folder.glob("*/parts/*")):
            return True
        return any(file.stat().st_size for file in self._folder.glob("*/journal"))

    def begun(self, source: Input) -> bool:
        """Whether an earlier run has begun an input."""
        return (self._of(source) / "input.json").exists()

    def journal(self, source: Input) -> Journal:
        """The journal of an input's output."""
        folder = self._of(source)
        folder.mkdir(exist_ok=True)
        _write(folder / "input.json", _facts_of(source))
        return Journal(folder)

    def finished(self, source: Input) -> Counts | None:
        """What the output of an input has, if it is whole; it may still be in this folder."""
        counts = _read(self._of(source) / "finished.json")
        return Counts(**counts) if counts else None

    def finish(self, source: Input, journal: Journal) -> None:
        """Note that an output is whole: it stays so, whatever happens before it is delivered."""
        journal.finish()
        _write(self._of(source) / "finished.json", journal.counts._asdict())

    def undelivered(self, source: Input) -> tuple[Path, Path | None] | None:
        """The whole output and its errors, if any; None if they were delivered."""
        output, errors = self._of(source) / "output", self._of(source) / "errors"
        if not output.exists():
            return None
        return output, errors if errors.exists() else None

    def delivered(self, source: Input) -> None:
        """Remove what is left of an output that is in its place."""
        for name in ("output", "errors", "journal"):
            with contextlib.suppress(FileNotFoundError):
                (self._of(source) / name).unlink()

    def remove(self) -> None:
        """Remove the folder: the job is done."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _of(self, source: Input) -> Path:
        return (
            self._folder
            / hashlib.sha256(source.name.encode("utf-8", "surrogateescape")).hexdigest()[:24]
        )


@contextlib.contextmanager
def held(folder: Path, overwrite: bool) -> Iterator[State]:
    """The state in a folder, which no other process may use meanwhile.

    Args:
        folder: made if it is not there.
        overwrite: whether an earlier job's is removed.

    Raises:
        TransformError: another process uses it.
        OSError: it cannot be made.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise TransformError(
                "another transform writes to this output; wait for its end, or name another folder"
            ) from None
        if overwrite:
            for entry in folder.iterdir():
                if entry.name != "lock":
                    shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        yield State(folder)


def _facts_of(source: Input) -> dict[str, Any]:
    return {"name": source.name, "size_bytes": source.size_bytes, "version": source.version}


def _read(file: Path) -> dict[str, Any] | None:
    try:
        value = json.loads(file.read_text())
    except (FileNotFoundError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def _write(file: Path, value: Mapping[str, Any]) -> None:
    temporary = file.with_suffix(".new")
    temporary.write_text(json.dumps(dict(value)))
    os.replace(temporary, file)
