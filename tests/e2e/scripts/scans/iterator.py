"""Batches of scans and their masks; an incomplete last batch is dropped."""

import mxnet as mx
import numpy as np


class ScanIter(mx.io.DataIter):
    def __init__(self, path, batch_size):
        super().__init__(batch_size)
        with np.load(path) as file:
            self.scans, self.masks = file["scans"], file["masks"]
        self.side = self.scans.shape[-1]
        self.row = 0

    @property
    def provide_data(self):
        return [mx.io.DataDesc("data", (self.batch_size, 1, self.side, self.side))]

    @property
    def provide_label(self):
        return [mx.io.DataDesc("label", (self.batch_size, self.side, self.side))]

    def reset(self):
        self.row = 0

    def next(self):
        part = slice(self.row, self.row + self.batch_size)
        if part.stop > len(self.scans):
            raise StopIteration
        self.row = part.stop
        data, label = mx.nd.array(self.scans[part]), mx.nd.array(self.masks[part])
        return mx.io.DataBatch([data], [label], pad=0)
