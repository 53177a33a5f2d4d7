"""The program around MMS: it starts the front end, registers models, and watches over both."""

from __future__ import annotations

from mms_handler.server.java import java_variables
from mms_handler.server.properties import config_properties
from mms_handler.server.server import Server, serve

__all__ = ["Server", "config_properties", "java_variables", "serve"]
