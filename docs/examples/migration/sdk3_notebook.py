"""The same with SageMaker's Python SDK 3, which has no classes for MXNet."""

import json

from sagemaker.core.deserializers import JSONDeserializer
from sagemaker.core.resources import Endpoint, EndpointConfig, Model
from sagemaker.core.serializers import JSONSerializer
from sagemaker.core.shapes import ContainerDefinition, ProductionVariant
from sagemaker.core.training.configs import Compute, InputData, OutputDataConfig
from sagemaker.serve import ModelBuilder
from sagemaker.train import ModelTrainer

role = "arn:aws:iam::123456789012:role/SageMakerExecution"
image = "123456789012.dkr.ecr.us-east-1.amazonaws.com/mms-handler:0.1.0"

trainer = ModelTrainer(
    training_image=image,
    hyperparameters={
        "sagemaker_program": "gluon_train.py",
        "sagemaker_submit_directory": "s3://bucket/code/sourcedir.tar.gz",
        "epochs": 20,
    },
    compute=Compute(instance_type="ml.c5.xlarge", instance_count=1),
    output_data_config=OutputDataConfig(s3_output_path="s3://bucket/trained"),
    base_job_name="pairs",
    role=role,
)
trainer.train([InputData(channel_name="train", data_source="s3://bucket/pairs/")], logs=False)

# The model.tar.gz has the artifacts and code/: what mms-handler train --archive or convert wrote.
builder = ModelBuilder(
    image_uri=image,
    s3_model_data_url="s3://bucket/models/pairs.tar.gz",
    role_arn=role,
    instance_type="ml.c5.xlarge",
)
builder.build(model_name="pairs")
endpoint = builder.deploy(endpoint_name="pairs", initial_instance_count=1)
endpoint.serializer, endpoint.deserializer = JSONSerializer(), JSONDeserializer()
print(json.dumps(endpoint.invoke([[1, 2], [5, 3]], content_type="application/json").body))

# Or call by call, as with boto3.
container = ContainerDefinition(image=image, model_data_url="s3://bucket/models/pairs.tar.gz")
Model.create(model_name="pairs-2", execution_role_arn=role, primary_container=container)
variant = ProductionVariant(
    variant_name="all",
    model_name="pairs-2",
    instance_type="ml.c5.xlarge",
    initial_instance_count=1,
)
EndpointConfig.create(endpoint_config_name="pairs-2", production_variants=[variant])
endpoint = Endpoint.create(endpoint_name="pairs-2", endpoint_config_name="pairs-2")
endpoint.wait_for_status("InService")
answer = endpoint.invoke("[[1, 2], [5, 3]]", "application/json")
print(answer.body.read().decode())
