# Everything is the default.  The files of HybridBlock.export are in the model_dir.
