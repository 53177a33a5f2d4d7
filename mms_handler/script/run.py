"""The program that runs a script-mode script: python run.py [--seed=N] REPORT KIND NAME ARGUMENT...

KIND is "file", and NAME is a path, or "module", and NAME is a module's name.  The script sees what
it would see if Python ran it alone: sys.argv, sys.path, __main__; and its exit code is kept.  If
it fails, its exception is written to the file REPORT, and the process ends at once.  Python would
free the script's KVStore first, which waits for the other hosts, while they wait for this one.
"""

from __future__ import annotations

# isort: skip_file
import sys

if __name__ == "__main__":
    del sys.path[0]  # this folder, whose files must not take the names of other modules

import faulthandler
import os
import runpy
import signal
import traceback
from pathlib import Path
from types import ModuleType, TracebackType

from mms_handler.causes import cause
from mms_handler.script.report import end_now, record_stacks, write_report
from mms_handler.script.seeds import seed_generators


def run(kind: str, name: str) -> None:
    """Run the script as ``__main__``."""
    if kind == "module":
        sys.path.insert(0, os.getcwd())
        runpy.run_module(name, run_name="__main__", alter_sys=True)
        return
    sys.path.insert(0, os.path.dirname(os.path.abspath(name)))
    path = name if sys.version_info < (3, 9) else os.path.join(os.getcwd(), name)  # as Python
    with open(name, "rb") as file:
        code = compile(file.read(), path, "exec", dont_inherit=True)
    main = sys.modules["__main__"] = ModuleType("__main__")
    main.__file__ = path
    exec(code, main.__dict__)


def main() -> None:
    """Run the script that the command line names, to its end."""
    if sys.argv[1].startswith("--seed="):
        seed_generators(int(sys.argv.pop(1).partition("=")[2]))
    report, kind, name = sys.argv[1:4]
    del sys.argv[:3]
    record_stacks(Path(report).parent)
    if "OMPI_COMM_WORLD_RANK" in os.environ:  # mpirun marks each piece that it reads
        for stream in (sys.stdout, sys.stderr):
            stream.reconfigure(line_buffering=True, write_through=False)  # type: ignore
    faulthandler.enable()  # MXNet, if the script imports it, keeps this handler of SIGSEGV
    try:
        run(kind, name)
    except SystemExit as exc:
        _exit(exc, Path(report))
    except BaseException as exc:
        exc.__traceback__ = _without_runner(exc)
        sys.excepthook(type(exc), exc, exc.__traceback__)
        write_report(Path(report), cause(exc, os.getcwd()))
        if isinstance(exc, KeyboardInterrupt):  # as Python ends itself
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGINT)
        end_now(1)


def _exit(exc: SystemExit, report: Path) -> None:
    """Exit as Python does after ``sys.exit``: None is 0, and a text is printed."""
    if exc.code is None or exc.code == 0:
        sys.exit(0)
    if not isinstance(exc.code, int):
        sys.stderr.write(f"{exc.code}\n")
        end_now(1)
    innermost = traceback.extract_tb(exc.__traceback__)[-1].filename
    # A library that exits has printed why; argparse does.
    if os.path.abspath(innermost).startswith(os.getcwd() + os.sep):
        write_report(report, cause(exc, os.getcwd()))
    end_now(exc.code & 0xFF)


def _without_runner(exc: BaseException) -> TracebackType | None:
    """The traceback of ``exc`` from the script's first line on."""
    frames = exc.__traceback__
    while frames and frames.tb_frame.f_code.co_filename in (__file__, runpy.__file__):
        frames = frames.tb_next
    return frames


if __name__ == "__main__":
    main()
