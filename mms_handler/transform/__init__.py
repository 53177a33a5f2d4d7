"""Batch transform: the records of files, answered by a model."""
