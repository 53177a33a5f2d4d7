"""``python -m mms_handler`` runs the command ``mms-handler``."""

from mms_handler.cli import main

if __name__ == "__main__":
    main()
