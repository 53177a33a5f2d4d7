"""Run MMS's worker for a handler that is not ours: ``python plain_worker.py MMS'S_SCRIPT ...``."""

from __future__ import annotations

import runpy
import sys


def main() -> None:
    """Run the script of the command line as Python would."""
    del sys.argv[0], sys.path[0]  # MMS's script removes its own folder from the path, too
    from mms_handler.worker.mms import plain_service

    plain_service.install()
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
