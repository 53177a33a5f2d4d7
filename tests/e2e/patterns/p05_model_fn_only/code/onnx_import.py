"""Only a model_fn; its Module is bound for 100 rows and has an input called "1"."""

import os

import mxnet as mx


def model_fn(model_dir):
    sym, arg_params, aux_params = mx.model.load_checkpoint(os.path.join(model_dir, "super"), 5)
    mod = mx.mod.Module(symbol=sym, data_names=["1"], label_names=None, context=mx.cpu())
    mod.bind(for_training=False, data_shapes=[("1", (100, 2))])
    mod.set_params(arg_params=arg_params, aux_params=aux_params, allow_missing=True)
    return mod
