"""Tell on which side of a line points are: a legacy Gluon file, as people wrote them for CIFAR.

The first host writes a file whenever its accuracy grows.  ``save`` is called on every host: it
renames the best file on the first, and finds none on the others.
"""

import logging
import os

import mxnet as mx
import numpy as np
from mxnet import autograd, gluon

logging.basicConfig(level=logging.INFO)


def network():
    net = gluon.nn.HybridSequential(prefix="points_")
    with net.name_scope():
        net.add(gluon.nn.Dense(8, activation="relu"), gluon.nn.Dense(2))
    return net


def train(
    current_host,
    hosts,
    num_cpus,
    num_gpus,
    channel_input_dirs,
    model_dir,
    hyperparameters,
    **kwargs,
):
    mx.random.seed(5)
    np.random.seed(5)
    part = hosts.index(current_host)
    table = np.loadtxt(os.path.join(channel_input_dirs["train"], "points.csv"), delimiter=",")
    rows = table[part :: len(hosts)].astype("float32")
    batch_size = hyperparameters.get("batch_size", 20)
    points = gluon.data.DataLoader(
        gluon.data.ArrayDataset(rows[:, :2], rows[:, 2]), batch_size, shuffle=True
    )
    net = network()
    net.initialize(mx.init.Xavier(), ctx=mx.gpu() if num_gpus else mx.cpu())
    net.hybridize()
    store = mx.kv.create("dist_sync" if len(hosts) > 1 else "local")
    trainer = gluon.Trainer(
        net.collect_params(), "sgd", {"learning_rate": hyperparameters["lr"]}, kvstore=store
    )
    loss = gluon.loss.SoftmaxCrossEntropyLoss()
    best = 0.0
    for epoch in range(hyperparameters["epochs"]):
        for data, label in points:
            with autograd.record():
                error = loss(net(data), label)
            error.backward()
            trainer.step(batch_size * len(hosts))
        accuracy = (net(mx.nd.array(rows[:, :2])).argmax(axis=1).asnumpy() == rows[:, 2]).mean()
        if current_host == hosts[0] and accuracy > best:
            best = accuracy
            net.save_parameters(os.path.join(model_dir, f"{best:.4f}-points-{epoch}.params"))
    logging.info("%s saw %d points, workers: %d", current_host, len(rows), store.num_workers)
    return net


def save(net, model_dir):
    names = sorted(os.listdir(model_dir))
    logging.info("save on %s, files there: %s", os.environ["CURRENT_HOST"], bool(names))
    if names:
        best = os.path.join(model_dir, names[-1])
        os.rename(best, os.path.join(model_dir, "model.params"))
        for name in names[:-1]:
            os.remove(os.path.join(model_dir, name))
