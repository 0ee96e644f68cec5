"""Client of the REST API of TF Serving and KServe.

It is also a command: `python -m keras_recnet.export.serving.rest_client a.jpg -o out`.
"""

import base64
import contextlib
import json
import queue
import sys
from collections.abc import Sequence

from keras_recnet.errors import MissingExtraError
from keras_recnet.export.serving.client import IMAGES, MAPS, SIGNATURE, STATUS, Answer, Client, ServerError

URL = "http://localhost:8501"
# too many requests; bad gateway; unavailable; gateway timeout
_TEMPORARY = frozenset((429, 502, 503, 504))


class RestClient(Client):
    """Client of a RecNet in TF Serving, or in a KServe server with the V1 protocol, over HTTP.

    Args:
        model: name of the model on the server; in KServe by default the name of the `InferenceService`.
        url: address of the server, `http://HOST:PORT`; it may contain a path, to which `/v1` is appended.
        connect_timeout: number of seconds to wait for the connection.
        headers: HTTP headers of every request, such as `{"Authorization": …}`, or `{"Host": …}` for the gateway of a
            KServe cluster.
        **options: other arguments of `Client`.

    Raises:
        MissingExtraError: if requests is not installed.

    Example:
        >>> with RestClient("recnet_lite0") as client:
        ...     client.wait_until_ready()
        ...     saliency_map = client("photo.jpg")
    """

    def __init__(
        self,
        model: str = "recnet_lite0",
        url: str = URL,
        *,
        connect_timeout: float = 5.0,
        headers: dict[str, str] | None = None,
        **options,
    ):
        super().__init__(model, **options)
        try:
            import requests
        except ModuleNotFoundError as error:
            raise MissingExtraError(
                'The REST client needs requests: pip install "keras-recnet[serving-client]".'
            ) from error
        self._requests = requests
        version = "" if self.version is None else f"/versions/{self.version}"
        self.url = f"{url.rstrip('/')}/v1/models/{model}{version}"
        self._connect_timeout, self._headers = connect_timeout, headers or {}
        # idle sessions: requests does not promise that a session can be used by two threads at the same time
        self._idle = queue.LifoQueue()

    def __str__(self):
        return self.url

    def is_ready(self) -> bool:
        try:
            answer = self._call("GET", self.url)
        except ServerError:
            return False
        if "ready" in answer:  # KServe
            return answer["ready"] is True
        return any(version.get("state") == "AVAILABLE" for version in answer.get("model_version_status", ()))

    def close(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                self._idle.get_nowait().close()

    def _request(self, files: Sequence[bytes]) -> list[Answer]:
        instances = [{IMAGES: {"b64": base64.b64encode(file).decode("ascii")}} for file in files]
        body = json.dumps({"signature_name": SIGNATURE, "instances": instances})
        answer = self._call("POST", f"{self.url}:predict", body)
        try:
            return [Answer(row[STATUS], base64.b64decode(row[MAPS]["b64"])) for row in answer["predictions"]]
        except (KeyError, TypeError, ValueError) as error:
            raise ServerError(
                f"{self}: the answer lacks {MAPS} or {STATUS}. Check that the model is an exported RecNet."
            ) from error

    def _call(self, method, url, body=None):
        try:
            with self._session() as session:
                response = session.request(
                    method,
                    url,
                    data=body,
                    headers={"Content-Type": "application/json", **self._headers},
                    timeout=(self._connect_timeout, self.timeout),
                )
        except self._requests.exceptions.ReadTimeout as error:
            raise ServerError(
                f"{self}: no answer within {self.timeout:g} s. Send fewer images per request, or increase the timeout.",
                temporary=True,
            ) from error
        except self._requests.exceptions.SSLError as error:
            raise ServerError(f"{self}: no secure connection ({error}).") from error
        except (self._requests.ConnectionError, self._requests.exceptions.ChunkedEncodingError) as error:
            raise ServerError(f"{self}: no connection. Is the server running? ({error})", temporary=True) from error
        except self._requests.RequestException as error:
            raise ServerError(f"{self}: invalid address ({error}).") from error
        return self._json(response)

    def _json(self, response):
        try:
            answer = response.json()
        except ValueError:
            answer = {}
        if response.status_code == 200 and isinstance(answer, dict) and answer:
            return answer
        reason = (answer.get("error") if isinstance(answer, dict) else None) or response.text[:200] or response.reason
        if response.status_code == 404 and self.version is not None:
            reason = f"{reason} Check the version; KServe models have no versions, so omit it."
        raise ServerError(
            f"{self}: HTTP {response.status_code}: {reason}",
            code=response.status_code,
            temporary=response.status_code in _TEMPORARY,
            retry_after=_seconds(response.headers.get("Retry-After")),
        )

    @contextlib.contextmanager
    def _session(self):
        try:
            session = self._idle.get_nowait()
        except queue.Empty:
            session = self._requests.Session()
        try:
            yield session
        finally:
            self._idle.put(session)


def _seconds(text):
    return float(text) if text and text.isdecimal() else None  # a date, the other form, is ignored


if __name__ == "__main__":
    from keras_recnet.cli.remote import main

    sys.exit(main(RestClient, URL))
