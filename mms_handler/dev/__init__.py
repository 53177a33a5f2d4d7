"""Serve one model while its script is edited, without Java: for ``serve --dev``.

edits ──▶ watch ──▶ server ──▶ a new worker, beside the old one until it has loaded
clients ──▶ http ──▶ server ──▶ the worker: a process that answers one request after another

A script that does not load leaves the last worker where it is.  Workers share the terminal, so that
breakpoint() works.  It answers what the real server answers, and nothing else of it is here: no
batches, no limits of time, no management API.
"""

from __future__ import annotations

from mms_handler.dev.server import DevServer, serve

__all__ = ["DevServer", "serve"]
