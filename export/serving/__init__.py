"""Serving an export with TF Serving: configuration files and clients.

Copy `docker-compose.yaml` and the `.config` files as docs/serving.md describes. The clients need neither Keras nor a
model: `rest_client.RestClient` needs `requests`, and `grpc_client.GrpcClient` needs the messages of TensorFlow Serving,
which require TensorFlow.
"""
