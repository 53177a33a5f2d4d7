"""Search hyperparameters with Ray Tune: python ray_tune.py TRAIN TEST.

TRAIN and TEST are the folders of several_hosts.py's channels.
"""

import subprocess
import sys
from pathlib import Path

from ray import tune

SCRIPT = Path(__file__).resolve().with_name("several_hosts.py")
TRAIN, TEST = (Path(folder).resolve() for folder in sys.argv[1:])


def trial(config):
    """Train once, with the trial's own folder for the model and all other results."""
    base = tune.get_context().get_trial_dir()
    words = ["--entry-point", SCRIPT, "--base-dir", base, "--seed", "1"]
    words += ["--channel", f"train={TRAIN}", "--channel", f"test={TEST}"]
    words += [f"--hp={name}={value}" for name, value in config.items()]
    subprocess.run(["mms-handler", "train", *words], check=True)
    return {"accuracy": float(Path(base, "output/data/accuracy").read_text())}


space = {"learning_rate": tune.loguniform(0.01, 1), "batch_size": tune.choice([16, 32, 64])}
tuner = tune.Tuner(
    tune.with_resources(trial, {"cpu": 1}),
    param_space=space,
    tune_config=tune.TuneConfig(metric="accuracy", mode="max", num_samples=4),
)
best = tuner.fit().get_best_result()
print(best.config, best.metrics["accuracy"], f"{best.path}/model")
