"""A client of TF Serving's REST interface: `python -m keras_recnet.export.serving.rest_client photo.jpg -o maps`."""

import base64
import contextlib
import json
import queue
import sys
from collections.abc import Sequence

from keras_recnet.errors import MissingExtraError
from keras_recnet.export.serving.client import IMAGES, MAPS, SIGNATURE, STATUS, Answer, Client, ServerError

URL = "http://localhost:8501"
# Too many requests, and what TF Serving and the proxies before it say for unavailable and too slow.
_TEMPORARY = frozenset((429, 502, 503, 504))


class RestClient(Client):
    """Pictures in, maps out, over HTTP.

    Args:
        model: the name under which the server has the model.
        url: of the server, `http://HOST:PORT`; a path before `/v1` is kept.
        connect_timeout: seconds to wait for the connection.
        headers: sent with every request, such as `{"Authorization": …}`.
        **options: as of `Client`.

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
        # A session is one thread's at a time: requests does not promise more.
        self._idle = queue.LifoQueue()

    def __str__(self):
        return self.url

    def is_ready(self) -> bool:
        try:
            answer = self._call("GET", self.url)
        except ServerError:
            return False
        return any(version.get("state") == "AVAILABLE" for version in answer.get("model_version_status", ()))

    def close(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                self._idle.get_nowait().close()

    def _ask(self, files: Sequence[bytes]) -> list[Answer]:
        rows = [{IMAGES: {"b64": base64.b64encode(file).decode("ascii")}} for file in files]
        body = json.dumps({"signature_name": SIGNATURE, "instances": rows})
        answer = self._call("POST", f"{self.url}:predict", body)
        try:
            rows = answer["predictions"]
            return [Answer(row[STATUS], base64.b64decode(row[MAPS]["b64"])) for row in rows]
        except (KeyError, TypeError, ValueError) as error:
            raise ServerError(f"{self}: an answer without {MAPS} and {STATUS}. Is it a RecNet's export?") from error

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
                f"{self}: no answer within {self.timeout:g} s. Send fewer pictures at once, or wait longer (timeout).",
                temporary=True,
            ) from error
        except self._requests.exceptions.SSLError as error:
            raise ServerError(f"{self}: no secure connection ({error}).") from error
        except (self._requests.ConnectionError, self._requests.exceptions.ChunkedEncodingError) as error:
            raise ServerError(f"{self}: no connection. Does the server run? ({error})", temporary=True) from error
        except self._requests.RequestException as error:
            raise ServerError(f"{self}: not a usable address ({error}).") from error
        return self._json(response)

    def _json(self, response):
        try:
            answer = response.json()
        except ValueError:
            answer = {}
        if response.status_code == 200 and isinstance(answer, dict) and answer:
            return answer
        why = (answer.get("error") if isinstance(answer, dict) else None) or response.text[:200] or response.reason
        raise ServerError(
            f"{self}: HTTP {response.status_code}: {why}",
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
    return float(text) if text and text.isdigit() else None


if __name__ == "__main__":
    from keras_recnet.cli.remote import main

    sys.exit(main(RestClient, URL))
