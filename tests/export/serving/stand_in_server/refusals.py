"""Why a request is refused: a gRPC code and a message, as TensorFlow's statuses."""

# As TF Serving turns codes into HTTP statuses (model_servers/http_server.cc); what is not here is a 500.
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


class Refused(Exception):
    """A status other than OK."""

    def __init__(self, code, message):
        super().__init__(message)
        self.code = code

    @property
    def http(self):
        return _HTTP.get(self.code, 500)
