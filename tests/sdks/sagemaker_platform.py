"""A stand-in for SageMaker's service: it keeps what clients create, and runs its containers.

``Create...`` calls are kept, and ``Describe...`` calls answer with them.  A training job runs
``mms-handler train`` in a folder like /opt/ml, and an endpoint ``mms-handler serve``, both with the
data, the variables and the hyperparameters of the request and nothing else.  S3 is moto's.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import tarfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
from running_mms import BIN, Serving, free_ports

from mms_handler import client

REGION = "us-east-1"
ARN = f"arn:aws:sagemaker:{REGION}:123456789012"
DENIED = b"<ErrorResponse><Error><Code>AccessDenied</Code></Error></ErrorResponse>"


class Platform:
    """The service; ``end`` ends it and its endpoints.

    Attributes:
        s3: a client of boto3.
        created: the requests of Create calls, by kind and name.
        env: the variables with which containers find S3.
        variables: those with which clients find SageMaker, too.
    """

    def __init__(self, folder: Path, s3_url: str) -> None:
        self._folder, self._lock = folder, threading.Lock()
        self._endpoints: dict[str, Serving] = {}
        self.created: dict[tuple[str, str], dict[str, Any]] = {}
        self.env = {
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ENDPOINT_URL": s3_url,  # and all other services of moto's
        }
        self.s3 = boto3.Session("key", "secret", region_name=REGION).client(
            "s3", endpoint_url=s3_url
        )
        platform = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                target = self.headers.get("X-Amz-Target", "").partition(".")[2]
                with platform._lock:
                    if target:
                        status, reply = platform._call(target, json.loads(body))
                        content = json.dumps(reply).encode()
                        headers = {"Content-Type": "application/x-amz-json-1.1"}
                    elif self.path == "/":  # IAM: this user may not ask it
                        status, headers, content = 403, {"Content-Type": "text/xml"}, DENIED
                    else:
                        name = self.path.split("/")[2]
                        status, headers, content = platform._invoke(name, self.headers, body)
                self.send_response(status)
                for field, value in {**headers, "Content-Length": len(content)}.items():
                    self.send_header(field, str(value))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *words: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        url = f"http://127.0.0.1:{self._server.server_port}"
        self.variables = {
            **self.env,
            "AWS_ENDPOINT_URL_SAGEMAKER": url,
            "AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME": url,
            "AWS_ENDPOINT_URL_IAM": url,
        }
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def end(self) -> None:
        """End the service and its endpoints."""
        self._server.shutdown()
        self._server.server_close()
        for serving in self._endpoints.values():
            serving.__exit__()

    def _call(self, target: str, request: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        verb, kind = re.fullmatch(r"(Create|Describe|AddTags|List)(\w*)", target).groups()
        if verb in ("AddTags", "List"):
            return 200, {"Tags": []}
        name = request[f"{kind}Name"]
        if verb == "Create":
            now = time.time()
            more = {f"{kind}Arn": f"{ARN}:{kind.lower()}/{name}", "CreationTime": now}
            more.update(LastModifiedTime=now, **{f"{kind}Status": "InService"})
            self.created[kind, name] = {**request, **more}
            if kind == "TrainingJob":
                self.created[kind, name].update(self._train(name, request))
            return 200, {f"{kind}Arn": more[f"{kind}Arn"]}
        if (kind, name) not in self.created:
            return 400, {
                "__type": "ValidationException",
                "message": f"Could not find {kind} {name}",
            }
        return 200, self.created[kind, name]

    # --- the containers --------------------------------------------------------------------

    def _train(self, name: str, request: dict[str, Any]) -> dict[str, Any]:
        """Run the container of a training job; returns what its description gets."""
        base = self._folder / name
        channels = request.get("InputDataConfig", [])
        for channel in channels:
            uri = channel["DataSource"]["S3DataSource"]["S3Uri"]
            self._download(uri, base / "input" / "data" / channel["ChannelName"])
        files = {
            "hyperparameters": request.get("HyperParameters", {}),
            "inputdataconfig": {c["ChannelName"]: {"TrainingInputMode": "File"} for c in channels},
            "resourceconfig": {"current_host": "algo-1", "hosts": ["algo-1"]},
        }
        (base / "input" / "config").mkdir(parents=True)
        for file, content in files.items():
            (base / "input" / "config" / f"{file}.json").write_text(json.dumps(content))
        env = {**os.environ, **self.env, **request.get("Environment", {})}
        env["SAGEMAKER_BASE_DIR"] = str(base)
        done = subprocess.run(
            [BIN / "mms-handler", "train"], env=env, capture_output=True, timeout=300, check=False
        )
        ended = {"TrainingEndTime": time.time(), "SecondaryStatus": "Completed"}
        if done.returncode:
            reason = (base / "output" / "failure").read_text()[:1024]
            return {**ended, "TrainingJobStatus": "Failed", "FailureReason": reason}
        with tarfile.open(base / "model.tar.gz", "w:gz") as tar:
            tar.add(base / "model", ".")
        uri = (
            f"{request['OutputDataConfig']['S3OutputPath'].rstrip('/')}/{name}/output/model.tar.gz"
        )
        bucket, key = uri[len("s3://") :].split("/", 1)
        self.s3.upload_file(str(base / "model.tar.gz"), bucket, key)
        return {
            **ended,
            "TrainingJobStatus": "Completed",
            "ModelArtifacts": {"S3ModelArtifacts": uri},
        }

    def _invoke(self, name: str, headers: Any, body: bytes) -> tuple[int, dict[str, str], bytes]:
        """Send a request to an endpoint's container, which starts with its first one."""
        if name not in self._endpoints:
            self._endpoints[name] = self._serve(name)
        answer = client.call(
            "POST",
            f"{self._endpoints[name].inference}/invocations",
            body,
            {
                field: headers[field]
                for field in ("Content-Type", "Accept", "X-Amzn-SageMaker-Custom-Attributes")
                if headers.get(field)
            },
        )
        if answer.status < 400:
            content_type = answer.headers.get("content-type", "")
            return answer.status, {"Content-Type": content_type}, answer.body
        fault = {"OriginalStatusCode": answer.status, "OriginalMessage": answer.body.decode()}
        message = f"Received client error ({answer.status}) from primary with message {fault}"
        error = {"x-amzn-ErrorType": "ModelError", "Content-Type": "application/json"}
        return 424, error, json.dumps({**fault, "Message": message}).encode()

    def _serve(self, name: str) -> Serving:
        config = self.created["Endpoint", name]["EndpointConfigName"]
        (variant,) = self.created["EndpointConfig", config]["ProductionVariants"]
        model = self.created["Model", variant["ModelName"]]
        container = model.get("PrimaryContainer") or model["Containers"][0]
        base = self._folder / f"endpoint-{name}"
        self._download(container["ModelDataUrl"], base)
        (archive,) = base.iterdir()
        with tarfile.open(archive) as tar:
            tar.extractall(base / "model")
        env = {**os.environ, **self.env, **container.get("Environment", {})}
        env["SAGEMAKER_BASE_DIR"] = str(base)
        serving = Serving(free_ports(), "--workers", "1", env=env, log=base / "log")
        assert serving.first_line.startswith("model is ready"), (base / "log").read_text()
        return serving

    def _download(self, uri: str, folder: Path) -> None:
        """All objects whose keys begin with that of ``uri``."""
        folder.mkdir(parents=True)
        bucket, prefix = uri[len("s3://") :].split("/", 1)
        for entry in self.s3.list_objects_v2(Bucket=bucket, Prefix=prefix)["Contents"]:
            self.s3.download_file(
                bucket, entry["Key"], str(folder / entry["Key"].rpartition("/")[2])
            )
