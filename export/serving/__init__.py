"""What serves an export with TF Serving: its configuration files, and clients that turn pictures into maps.

`docker-compose.yaml` and the `.config` files are there to be copied; docs/serving.md says how they are used. The
clients need neither Keras nor a model: `RestClient` of `rest_client` needs `requests`, `GrpcClient` of `grpc_client`
TensorFlow Serving's messages, which come with TensorFlow.
"""
