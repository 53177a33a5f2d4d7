"""The same model as functions: batches, content types and errors are the package's part."""

from mxnet import gluon


def model_fn(model_dir):
    """What ``initialize`` did."""
    return gluon.SymbolBlock.imports(
        f"{model_dir}/model-symbol.json", ["data"], f"{model_dir}/model-0000.params"
    )


def output_fn(prediction, accept):
    """What ``postprocess`` did."""
    return {"larger": [["first", "second"][int(row.argmax())] for row in prediction.asnumpy()]}
