"""The MLP as people serve it by hand in an afternoon: a web server, orjson and ONNX Runtime.

Each program runs in the environment ``byhand`` and finds the model in the variable MODEL.
"""
