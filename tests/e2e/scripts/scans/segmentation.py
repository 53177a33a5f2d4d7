"""Find the bright spots of scans: a legacy file with siblings, as for brain scans.

Channel ``train``: scans.tar.gz, with scans.npz in it.  Training weighs the classes.  ``train``
returns another Module, which takes one scan and gives each pixel's probabilities.
"""

import logging
import os
import tarfile

import mxnet as mx
from iterator import ScanIter
from losses import Dice
from models import segmenting, training

logging.basicConfig(level=logging.INFO)


def train(current_host, channel_input_dirs, hyperparameters, hosts, num_cpus, num_gpus):
    mx.random.seed(5)
    batch_size = hyperparameters.get("batch_size", 8)
    class_weights = hyperparameters["class_weights"]
    folder = channel_input_dirs["train"]
    for name in os.listdir(folder):
        if name.endswith(".tar.gz"):
            with tarfile.open(os.path.join(folder, name)) as packed:
                packed.extractall(folder)

    scans = ScanIter(os.path.join(folder, "scans.npz"), batch_size)
    ctx = [mx.gpu(i) for i in range(num_gpus)] if num_gpus > 0 else mx.cpu()
    module = mx.mod.Module(training(class_weights, scans.side), context=ctx, label_names=["label"])
    module.bind(scans.provide_data, scans.provide_label)
    module.init_params(mx.init.Xavier(magnitude=6))
    module.fit(
        scans,
        eval_metric=Dice(),
        kvstore="local" if len(hosts) == 1 else "dist_sync",
        optimizer="adam",
        optimizer_params={"learning_rate": hyperparameters.get("lr", 0.05)},
        num_epoch=hyperparameters.get("epochs", 20),
    )
    module.save_params("params")

    serving = mx.mod.Module(segmenting(), context=ctx, label_names=None)
    serving.bind([("data", (1, 1, scans.side, scans.side))], for_training=False)
    serving.load_params("params")
    return serving
