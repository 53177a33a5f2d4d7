"""Train a Gluon network with Horovod, in any number of processes: a script-mode script."""

import argparse
import os

import horovod.mxnet as hvd
import mxnet as mx
import numpy as np
from mxnet import autograd, gluon

parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=10)
parser.add_argument("--batch-size", type=int, default=32, help="of all processes together")
arguments = parser.parse_args()

hvd.init()
np.random.seed(1)
mx.random.seed(1)
rows = np.loadtxt(os.path.join(os.environ["SM_CHANNEL_TRAIN"], "points.csv"), delimiter=",")
rows = rows.astype("float32")
size, rest = divmod(arguments.batch_size, hvd.size())
if rest:
    raise ValueError(f"a batch of {arguments.batch_size} has no {hvd.size()} equal parts")

net = gluon.nn.HybridSequential()
net.add(gluon.nn.Dense(16, activation="relu"), gluon.nn.Dense(2))
net.initialize(mx.init.Xavier())
net.hybridize()
net(mx.nd.array(rows[:1, 1:]))  # the parameters get their shapes
hvd.broadcast_parameters(net.collect_params(), root_rank=0)
trainer = hvd.DistributedTrainer(net.collect_params(), "sgd", {"learning_rate": 0.1})
loss = gluon.loss.SoftmaxCrossEntropyLoss()

# All processes shuffle alike, and each takes its part of each batch.  So the batches are the same
# however many processes there are, and all processes have as many.
for epoch in range(arguments.epochs):
    order = np.random.permutation(len(rows))
    for start in range(0, len(rows) - arguments.batch_size + 1, arguments.batch_size):
        part = rows[order[start + hvd.rank() * size : start + (hvd.rank() + 1) * size]]
        with autograd.record():
            error = loss(net(mx.nd.array(part[:, 1:])), mx.nd.array(part[:, 0]))
        error.backward()
        trainer.step(size)  # divides by the number of processes, too
    if hvd.rank() == 0:
        print(f"epoch {epoch}: loss={error.mean().asscalar():.4f}")

mx.nd.waitall()  # a process that ends before its last step has been computed fails the others
if hvd.rank() == 0:  # SageMaker takes the model of the first host
    net.export(os.path.join(os.environ["SM_MODEL_DIR"], "model"))
