"""A notebook of SageMaker's Python SDK 2: the same calls, with this package's image."""

import json

import sagemaker
from sagemaker.mxnet import MXNet, MXNetModel
from sagemaker.serializers import JSONSerializer

session = sagemaker.Session(default_bucket="bucket")
role = "arn:aws:iam::123456789012:role/SageMakerExecution"
image = "123456789012.dkr.ecr.us-east-1.amazonaws.com/mms-handler:0.1.0"
versions = {"framework_version": "1.9.0", "py_version": "py38", "image_uri": image}

estimator = MXNet(
    entry_point="docs/examples/migration/gluon_train.py",
    role=role,
    instance_count=1,
    instance_type="ml.c5.xlarge",
    hyperparameters={"epochs": 20},
    sagemaker_session=session,
    **versions,
)
estimator.fit({"train": "s3://bucket/pairs/"}, logs=False)

model = MXNetModel(
    model_data=estimator.model_data,
    role=role,
    entry_point="docs/examples/migration/serving/code/inference.py",
    sagemaker_session=session,
    **versions,
)
predictor = model.deploy(1, "ml.c5.xlarge", endpoint_name="pairs")
predictor.serializer = JSONSerializer()
print(json.dumps(predictor.predict([[1, 2], [5, 3]])))
