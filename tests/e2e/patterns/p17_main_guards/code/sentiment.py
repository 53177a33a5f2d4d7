"""Main guards before and after the hosting functions."""

import argparse
import json
import os


def train(args):
    raise AssertionError("trained where it should have served")


def parse_args():
    parser = argparse.ArgumentParser()
    parser.add_argument("--training-dir", required=True)
    parser.add_argument("--hosts", type=list, default=json.loads(os.environ["SM_HOSTS"]))
    return parser.parse_args()


if __name__ == "__main__":
    train(parse_args())


# --- hosting ---


def model_fn(model_dir):
    return {"great": 1, "dull": -1}


def transform_fn(model, data, content_type, accept):
    return json.dumps([model.get(word, 0) for word in json.loads(data).split()]), accept


if __name__ == "__main__":
    transform_fn(model_fn("."), '"great"', "application/json", "application/json")
