"""Decode JPEG and PNG images into arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from mms_handler.codecs.image_headers import read_image
from mms_handler.errors import TooLarge


def decode_image(body: bytes, limit_bytes: int) -> npt.NDArray[Any]:
    """Decode a JPEG or PNG into (1, 3, height, width): RGB, float32, 0 to 255.

    Raises:
        ValueError: the body is neither, or MXNet cannot decode it.
        TooLarge: the pixels take more than ``limit_bytes``.
    """
    image = read_image(body)
    array_bytes = 4 * 3 * image.width * image.height
    if array_bytes > limit_bytes:
        raise TooLarge(
            f"the image has {image.width} x {image.height} pixels, which take {array_bytes} bytes "
            f"as float32; the limit is {limit_bytes}"
        )
    import mxnet as mx

    try:
        pixels = mx.image.imdecode(image.body, to_rgb=True).asnumpy()
    except (mx.base.MXNetError, ValueError) as exc:
        raise ValueError("MXNet's OpenCV cannot decode the image") from exc
    return np.array(pixels.transpose(2, 0, 1)[np.newaxis], np.float32, order="C")
