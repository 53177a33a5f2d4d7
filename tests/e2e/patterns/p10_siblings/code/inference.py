# ruff: noqa: F403
import logging.config
import os

import utils
from hosting import *

logging.config.fileConfig(
    os.path.join(os.path.dirname(__file__), "log.ini"), disable_existing_loggers=False
)
utils.READY.append(logging.getLogger("p10").level)
