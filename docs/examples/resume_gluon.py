"""Train a Gluon network, from its last checkpoint on: a script-mode script."""

import argparse
import os

import mxnet as mx
import numpy as np
from mxnet import autograd, gluon

parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=10)
epochs = parser.parse_args().epochs
checkpoints = os.environ.get("SM_CHECKPOINT_DIR", "/opt/ml/checkpoints")
seed = int(os.environ.get("SM_SEED", 0))

rows = np.loadtxt(os.path.join(os.environ["SM_CHANNEL_TRAIN"], "points.csv"), delimiter=",")
rows = rows.astype("float32")
data = gluon.data.DataLoader(
    gluon.data.ArrayDataset(rows[:, 1:], rows[:, 0]), batch_size=32, shuffle=True
)
net = gluon.nn.HybridSequential()
net.add(gluon.nn.Dense(16, activation="relu"), gluon.nn.Dropout(0.2), gluon.nn.Dense(2))
net.initialize(mx.init.Xavier())
net.hybridize()
trainer = gluon.Trainer(net.collect_params(), "adam", update_on_kvstore=False)
loss = gluon.loss.SoftmaxCrossEntropyLoss()

ended = sorted(name for name in os.listdir(checkpoints) if name.startswith("epoch-"))
if ended:
    net.load_parameters(os.path.join(checkpoints, ended[-1], "net.params"))
    trainer.load_states(os.path.join(checkpoints, ended[-1], "trainer.states"))

for epoch in range(int(ended[-1][len("epoch-") :]) if ended else 0, epochs):
    np.random.seed(seed + epoch)  # the order of the rows
    mx.random.seed(seed + epoch)  # what Dropout leaves out
    for x, y in data:
        with autograd.record():
            error = loss(net(x), y)
        error.backward()
        trainer.step(len(x))
    unfinished = os.path.join(checkpoints, "unfinished")
    os.makedirs(unfinished, exist_ok=True)
    net.save_parameters(os.path.join(unfinished, "net.params"))
    trainer.save_states(os.path.join(unfinished, "trainer.states"))
    os.rename(unfinished, os.path.join(checkpoints, f"epoch-{epoch + 1:04d}"))

net.export(os.path.join(os.environ["SM_MODEL_DIR"], "model"))
