"""Defaults that are not one plain value in the table, or that other modules need too."""

from __future__ import annotations

from typing import Any, Mapping

#: MMS's own default limit for the body of a request and of a reply (ConfigManager.java), in bytes.
MMS_BODY_BYTES = 6_553_500

#: Bytes of arrays for each byte of the largest body.  Bytes, and digits with commas, become two to
#: four times as large as float32; the rest is for what is compressed or sparse.
ARRAY_BYTES_PER_BODY_BYTE = 8

#: The largest batch unless one is set.  Larger ones gain nothing: in a batch of 32 small requests,
#: each costs little more than reading its body and writing its reply.
DEFAULT_BATCH_SIZE = 32


def management_port(values: Mapping[str, Any]) -> int:
    """The first port of the safe range that is not the clients' port."""
    first, last = values["safe_port_range"] or (8081, 8082)
    return first + 1 if first == values["port"] and first < last else first
