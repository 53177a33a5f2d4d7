"""The entry point for MMS, ``mms_handler.service:handle``.

Archives name it in their manifests, so it stays where it is.
"""

from mms_handler.worker.loading import load
from mms_handler.worker.service import Service

#: MMS calls it with None to load the model, then with each batch of requests.
handle = Service(load)
