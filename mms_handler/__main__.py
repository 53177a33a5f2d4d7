"""``python -m mms_handler`` is the command ``mms-handler``."""

from mms_handler.cli import main

if __name__ == "__main__":
    main()
