"""The hosting functions; inference.py imports them with a star."""

import json
import os

import config
from models import tiny
from utils import READY, scaled

HERE = os.path.dirname(os.path.abspath(__file__))

with open(os.path.join(HERE, "labels.txt")) as f:
    LABELS = f.read().split()


def model_fn(model_dir):
    return tiny.Net(config.THRESHOLD)


def transform_fn(net, data, content_type, accept):
    labels = [LABELS[net(scaled(value))] for value in json.loads(data)]
    return json.dumps({"labels": labels, "level": READY}), accept
