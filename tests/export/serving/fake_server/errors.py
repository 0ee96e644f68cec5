"""An error status, like those of TensorFlow: a gRPC code and a message."""

# HTTP statuses of TF Serving (model_servers/http_server.cc); other codes become 500.
_HTTP = {
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "OUT_OF_RANGE": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "ABORTED": 409,
    "RESOURCE_EXHAUSTED": 429,
    "UNIMPLEMENTED": 501,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}


class StatusError(Exception):
    """A request failed."""

    def __init__(self, code, message):
        super().__init__(message)
        self.code = code

    @property
    def http(self):
        return _HTTP.get(self.code, 500)
