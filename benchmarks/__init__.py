"""Measure mms_handler beside its peers: same models, bodies and machine, in one run."""
