"""A training as the containers of MXNet 1.4 and later ran it: the script saves its own model."""

import argparse
import os

import mxnet as mx
import numpy as np
import sagemaker_containers
from mxnet import autograd, gluon

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--learning-rate", type=float, default=0.1)
    args = parser.parse_args()

    env = sagemaker_containers.training_env()
    path = os.path.join(env.channel_input_dirs["train"], "pairs.csv")
    table = np.loadtxt(path, delimiter=",", dtype="float32")
    rows = gluon.data.ArrayDataset(table[:, 1:], table[:, 0])
    batches = gluon.data.DataLoader(rows, batch_size=10, shuffle=True)

    context = mx.gpu() if env.num_gpus else mx.cpu()
    net = gluon.nn.HybridSequential()
    net.add(gluon.nn.Dense(2))
    net.initialize(mx.init.Xavier(), ctx=context)
    net.hybridize()
    trainer = gluon.Trainer(
        net.collect_params(),
        "sgd",
        {"learning_rate": args.learning_rate},
        kvstore="device" if len(env.hosts) == 1 else "dist_sync",
    )
    loss = gluon.loss.SoftmaxCrossEntropyLoss()
    for epoch in range(args.epochs):
        total = 0.0
        for x, y in batches:
            with autograd.record():
                error = loss(net(x.as_in_context(context)), y.as_in_context(context))
            error.backward()
            trainer.step(len(x))
            total += error.sum().asscalar()
        print(f"epoch {epoch}: loss={total / len(rows):.4f}")
    if env.current_host == env.hosts[0]:
        net.export(os.path.join(os.environ["SM_MODEL_DIR"], "model"))
