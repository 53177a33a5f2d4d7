"""Pictures: JPEG and PNG to arrays."""

from __future__ import annotations

import io
import warnings
from typing import Any

import mxnet as mx
import numpy as np
import numpy.typing as npt

from mms_handler.errors import TooLarge

#: Pixels of the largest picture that is decoded; its header says how many there are.
MAX_PIXELS = 2**26


def decode_image(body: bytes) -> npt.NDArray[Any]:
    """A JPEG or PNG as (1, 3, height, width), RGB, float32 from 0 to 255.

    Raises:
        ValueError: it is neither.
        TooLarge: it has more than MAX_PIXELS.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # ours comes below
            width, height = Image.open(io.BytesIO(body), formats=("JPEG", "PNG")).size
    except (UnidentifiedImageError, Image.DecompressionBombError) as exc:
        raise ValueError("it is no JPEG or PNG, or too large a one") from exc
    if width * height > MAX_PIXELS:
        raise TooLarge(f"the picture has {width} x {height} pixels, {MAX_PIXELS} is the most")
    try:
        image = mx.image.imdecode(body, to_rgb=1).asnumpy()
    except (mx.base.MXNetError, ValueError) as exc:
        raise ValueError("MXNet's OpenCV finds no image in it") from exc
    pixels: npt.NDArray[Any] = image.transpose(2, 0, 1)[np.newaxis].astype(np.float32)
    return pixels
