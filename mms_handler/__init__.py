"""Serve, train and pack SageMaker MXNet scripts with Multi Model Server."""

__version__ = "0.1.0"
