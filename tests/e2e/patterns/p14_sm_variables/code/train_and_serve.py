"""Read SageMaker's variables at import, for training and for serving."""

import argparse
import json
import os

NUM_CPUS = int(os.environ["SM_NUM_CPUS"])
NUM_GPUS = int(os.environ["SM_NUM_GPUS"])
HOSTS = json.loads(os.environ["SM_HOSTS"])
MASTER = os.environ["SM_CURRENT_HOST"] == HOSTS[0]
ROOT = os.environ.get("SM_MODEL_DIR", "/opt/ml/model")


def parse_args():
    parser = argparse.ArgumentParser()
    parser.add_argument("--train", default=os.environ["SM_CHANNEL_TRAIN"])
    return parser.parse_args()


def model_fn(model_dir):
    return os.path.samefile(model_dir, ROOT)


def transform_fn(model, data, content_type, accept):
    variables = {"cpus": NUM_CPUS, "gpus": NUM_GPUS >= 0, "master": MASTER, "root": model}
    return json.dumps(variables), accept


if __name__ == "__main__":
    parse_args()
