import json
import os


def model_fn(model_dir):
    with open(os.path.join(model_dir, "words.json")) as file:
        return json.load(file)


def transform_fn(model, input_data, content_type, accept):
    """Score each text from -1 to 1."""
    texts = json.loads(input_data) if content_type == "application/json" else [input_data.decode()]
    return json.dumps([score(model, text) for text in texts]), "application/json"


def score(model, text):
    words = [model[word] for word in text.lower().split() if word in model]
    return sum(words) / len(words) if words else 0
