"""Serve a preset with KServe's model server, without TensorFlow, in the protocol of the TF Serving clients.

    pip install . kserve
    python examples/kserve/server.py --preset recnet_lite0 --model_name recnet_lite0 --http_port 8080
    python -m keras_recnet.export.serving.rest_client photos -o maps --url http://localhost:8080

Copy this file and change it as you need; it depends on no other file in this folder. A request in KServe's V1 protocol
and its answer are those of the signature `encoded` of a SavedModel:

    {"instances": [{"image_bytes": {"b64": "…"}}]}
    {"predictions": [{"saliency_bytes": {"b64": "…"}, "status": 0}]}

`status` is 0 for a good image, 1 if it cannot be decoded and 2 if it has too many pixels. A bad image does not affect
the other images of the request.
"""

import argparse
import asyncio
import base64
from concurrent.futures import ThreadPoolExecutor

import kserve
from kserve.errors import InvalidInput

import keras_recnet
from keras_recnet.errors import ImageError, ImageTooLargeError
from keras_recnet.imaging.drawing import to_8_bits
from keras_recnet.imaging.writing import encode
from keras_recnet.parallel import cores

OK, UNDECODABLE, TOO_LARGE = 0, 1, 2


class SaliencyModel(kserve.Model):
    """Predicts saliency maps, one image per core.

    Args:
        name: name of the model in URLs.
        **options: arguments of `keras_recnet.Predictor`, such as `preset` and `max_pixels`.
    """

    def __init__(self, name: str, **options):
        super().__init__(name)
        self.options = options
        # shared by all requests, so that memory does not grow with their number
        self.threads = ThreadPoolExecutor(cores() + 1)

    def load(self) -> bool:
        self.predictor = keras_recnet.Predictor(threads=1, **self.options)
        self.ready = True
        return self.ready

    async def predict(self, payload, headers=None, response_headers=None):
        try:
            files = [base64.b64decode(instance["image_bytes"]["b64"]) for instance in payload["instances"]]
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidInput('The request must be {"instances": [{"image_bytes": {"b64": "…"}}, …]}.') from error
        # in threads, since the server answers no other request, and no health check, while this coroutine computes
        loop = asyncio.get_running_loop()
        answers = [loop.run_in_executor(self.threads, self.answer, file) for file in files]
        return {"predictions": await asyncio.gather(*answers)}

    def answer(self, file: bytes) -> dict:
        """Return the answer for one image file."""
        status, png = OK, b""
        try:
            png = encode(to_8_bits(self.predictor(file)))
        except ImageTooLargeError:
            status = TOO_LARGE
        except ImageError:
            status = UNDECODABLE
        return {"saliency_bytes": {"b64": base64.b64encode(png).decode("ascii")}, "status": status}


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0], parents=[kserve.model_server.parser])
    parser.add_argument("--preset", default="recnet_lite0", help="Name or folder of a preset; see also --model_name.")
    parser.add_argument("--max_pixels", type=int, default=50_000_000, help="Larger images are refused.")
    parser.set_defaults(model_name="recnet_lite0")
    arguments = parser.parse_args()
    model = SaliencyModel(arguments.model_name, preset=arguments.preset, max_pixels=arguments.max_pixels)
    model.load()
    kserve.ModelServer().start([model])


if __name__ == "__main__":
    main()
