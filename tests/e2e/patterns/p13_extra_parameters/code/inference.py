"""Functions with annotations, defaults and options that only the script knows."""

import json
from typing import Any, Dict, List, Optional, Tuple, Union

calls = 0


class Predictor:
    def __init__(self, size: Tuple[int, int], freq: str) -> None:
        self.size, self.freq = size, freq


def model_fn(
    model_dir: str, prefered_batch_size=1, image_size: Tuple[int, int] = (112, 112), freq="D"
) -> Predictor:
    assert prefered_batch_size == 1, prefered_batch_size
    return Predictor(image_size, freq)


def transform_fn(
    model: Predictor,
    request_body: Union[str, bytes],
    content_type: str = "application/json",
    accept_type: str = "application/json",
    num_samples: Optional[int] = 1000,
) -> Tuple[str, str]:
    globals()["calls"] += 1
    records = _input_fn(request_body, content_type)
    answers = [_answer(model, record, num_samples) for record in records]
    return "\n".join(json.dumps(answer) for answer in answers), accept_type


def _input_fn(request_body: Union[str, bytes], content_type: str) -> List[Dict[str, Any]]:
    """Read bytes or text; older servers passed one, newer ones the other."""
    assert content_type == "application/jsonlines", content_type
    text = request_body if isinstance(request_body, str) else request_body.decode("utf-8")
    return [json.loads(line) for line in text.splitlines()]


def _answer(model: Predictor, record: Dict[str, Any], num_samples: int) -> Dict[str, Any]:
    return {
        "mean": sum(record["target"]) / len(record["target"]),
        "samples": num_samples,
        "size": model.size,
        "freq": model.freq,
    }


if __name__ == "__main__":
    transform_fn(model_fn("."), '{"target": [1]}', num_samples=1)
