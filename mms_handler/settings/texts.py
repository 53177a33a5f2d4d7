"""Parsers of settings: each turns the text of a variable into a value.

A parser that cannot read a text raises ValueError with a description of valid texts.  The user
then sees "VARIABLE: 'text' is not DESCRIPTION".
"""

from __future__ import annotations

import re
from typing import Any, Callable

#: SageMaker's 0 means no limit.  This is the largest limit that it allows otherwise.
STREAMED_MB = 100


#: Digits of a number.  Python refuses to read thousands of them, with advice for programmers.
_MAX_DIGITS = 18


def _is_whole(text: str) -> bool:
    return text.strip().isdecimal() and len(text.strip()) <= _MAX_DIGITS


def natural(text: str) -> int:
    if not _is_whole(text):
        raise ValueError("a whole number, 0 or more")
    return int(text)


def positive(text: str) -> int:
    if not _is_whole(text) or int(text) == 0:
        raise ValueError("a whole number, 1 or more")
    return int(text)


def rate(text: str) -> float:
    # Within these bounds Java's nanoseconds do not overflow.
    number = text.strip()[:-2] if text.strip().endswith("/s") else text.strip()
    if not re.fullmatch(r"\d{1,7}(\.\d{1,3})?", number) or not 0.001 <= float(number) <= 1e6:
        raise ValueError("a number of requests a second, such as 20/s or 0.5, up to 1000000")
    return float(number)


def share(text: str) -> float:
    number = text.strip()
    if not re.fullmatch(r"\d{1,3}(\.\d{1,6})?%?", number):
        raise ValueError("a share such as 0.01 or 1%")
    value = float(number.rstrip("%")) / (100 if number.endswith("%") else 1)
    if not 1e-6 <= value <= 1:
        raise ValueError("a share above 0 and up to 1, or 100%")
    return value


def place(text: str) -> str:
    scheme, separator, rest = text.partition("://")
    if not text.isprintable() or (separator and (scheme.lower() != "s3" or not rest.strip("/"))):
        raise ValueError("a folder, or s3://bucket/folder")
    return text


def media_types(text: str) -> tuple[str, ...]:
    if not re.fullmatch(
        r"[\w.+*-]+/[\w.+-]+(,[\w.+*-]+/[\w.+-]+)*", "".join(text.split()), re.ASCII
    ):
        raise ValueError("content types separated by commas, such as application/json,text/csv")
    return tuple(word.lower() for word in words(text))


def burst(text: str) -> int:
    if not _is_whole(text) or not 0 < int(text) <= 1_000_000:
        raise ValueError("a whole number from 1 to 1000000")
    return int(text)


def proxies(text: str) -> int:
    if not _is_whole(text) or int(text) > 20:
        raise ValueError("a whole number from 0 to 20")
    return int(text)


def megabytes(text: str) -> int:
    return positive(text) * 2**20


def body_bytes(text: str) -> int:
    # MMS keeps it in an int (ConfigManager.java).
    if not _is_whole(text) or not 0 < int(text) < 2**31:
        raise ValueError("a number of bytes from 1 to 2147483647")
    return int(text)


def payload_megabytes(text: str) -> int:
    if not _is_whole(text) or int(text) > 2_047:
        raise ValueError("a whole number from 0 to 2047")
    return (int(text) or STREAMED_MB) * 2**20


def port(text: str) -> int:
    # MMS refuses ports from 32,767 on (Connector.java).
    if not _is_whole(text) or not 0 < int(text) < 32_767:
        raise ValueError("a port from 1 to 32766")
    return int(text)


def port_range(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"\s*(\d{1,5})-(\d{1,5})\s*", text)
    first, last = map(int, match.groups()) if match else (1, 0)
    if not 0 < first <= min(last, 32_766):
        raise ValueError("two ports, such as 1111-2222, the first from 1 to 32766")
    return first, last


def threads(text: str) -> int:
    # OpenMP also takes a list: a number for each level of nesting.  The first one counts.
    return positive(text.partition(",")[0])


def order(text: str) -> str:
    names = text.replace(" ", "").lower()
    if names not in ("model,data", "data,model"):
        raise ValueError("'model,data' or 'data,model'")
    return names


def boolean(text: str) -> bool:
    word = text.strip().lower()
    if word not in ("true", "1", "yes", "false", "0", "no"):
        raise ValueError("true or false")
    return word in ("true", "1", "yes")


def choice(*names: str) -> Callable[[str], str]:
    """A parser of one of several words."""

    def parse(text: str) -> str:
        if text.strip().lower() not in names:
            raise ValueError(f"{', '.join(names[:-1])} or {names[-1]}")
        return text.strip().lower()

    return parse


graphs = choice("on", "float", "off")
log_format = choice("text", "json")
log_level = choice("debug", "info", "warning", "error")
access_log = choice("off", "on", "errors")
auto = choice("auto", "off")
engine = choice("auto", "mxnet")


def words(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def patterns(text: str) -> tuple[str, ...]:
    # MMS reads them as regular expressions, so only what means the same in both is taken.
    if not re.fullmatch(r"[\w*?.-]+(,[\w*?.-]+)*", "".join(text.split()), re.ASCII):
        raise ValueError("names separated by commas, in which * and ? stand for other letters")
    return words(text)


def line(text: str) -> str:
    if not text.isprintable():
        raise ValueError("one line of text")
    return text


def to_text(value: Any) -> str:
    """Write ``value`` as the text of a variable."""
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(value) if isinstance(value, tuple) else str(value)
