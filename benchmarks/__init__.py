"""mms_handler beside its peers: the same models, bodies and machine, in one run."""
