"""What can go wrong between a request and its answer, and the one table from errors to status codes.

Every message names the field, what was given and what is allowed.
"""

from __future__ import annotations

from typing import NamedTuple


class Status(NamedTuple):
    """How an error travels.

    Attributes:
        grpc: name of a `grpc.StatusCode`.
        http: status code.
        reason: label of `nv_inference_request_failure`: "REJECTED", "CANCELED", "BACKEND" or "OTHER".
    """

    grpc: str
    http: int
    reason: str


class ServingError(Exception):
    """Base of every error that this package raises on purpose."""


class ArtifactError(ServingError):
    """A directory that is no artefact, or one whose files do not match its manifest."""


class ModelNotFound(ServingError):
    """No model, or no version of it, has this name."""


class ServiceNotFound(ServingError):
    """The health service knows no such service."""


class ModelNotReady(ServingError):
    """The model is known but not loaded, or the server is shutting down."""


class InvalidInput(ServingError):
    """A request that the model cannot take."""


class InputTooLarge(InvalidInput):
    """A request that fits into no bucket of the model."""


class MessageTooLarge(ServingError):
    """A message, or its headers, that the server does not take in; trying again does not help."""


class Overloaded(ServingError):
    """The queue is full.

    Args:
        message: what is full.
        retry_after: seconds after which a try is worth while.
    """

    def __init__(self, message: str, retry_after: float = 1.0) -> None:
        super().__init__(message, retry_after)
        self.message, self.retry_after = message, retry_after

    def __str__(self) -> str:
        return self.message


class DeadlineExceeded(ServingError):
    """The time that the caller gave was over before the model ran."""


class Cancelled(ServingError):
    """The caller gave up."""


class Unauthenticated(ServingError):
    """No token, or the wrong one."""


class PermissionDenied(ServingError):
    """What this caller may not do, such as shared memory from another host."""


class Unimplemented(ServingError):
    """A part of the protocol that this server does not have."""


class InferenceFailed(ServingError):
    """The compiled program failed."""


class ServerUnreachable(ServingError):
    """No server answered (client side)."""


STATUS: dict[type[Exception], Status] = {
    ArtifactError: Status("FAILED_PRECONDITION", 400, "OTHER"),
    ModelNotFound: Status("NOT_FOUND", 404, "OTHER"),
    ServiceNotFound: Status("NOT_FOUND", 404, "OTHER"),
    ModelNotReady: Status("UNAVAILABLE", 503, "OTHER"),
    InputTooLarge: Status("INVALID_ARGUMENT", 400, "OTHER"),
    InvalidInput: Status("INVALID_ARGUMENT", 400, "OTHER"),
    MessageTooLarge: Status("RESOURCE_EXHAUSTED", 413, "REJECTED"),
    Overloaded: Status("RESOURCE_EXHAUSTED", 429, "REJECTED"),
    DeadlineExceeded: Status("DEADLINE_EXCEEDED", 504, "REJECTED"),
    Cancelled: Status("CANCELLED", 499, "CANCELED"),
    Unauthenticated: Status("UNAUTHENTICATED", 401, "OTHER"),
    PermissionDenied: Status("PERMISSION_DENIED", 403, "OTHER"),
    Unimplemented: Status("UNIMPLEMENTED", 501, "OTHER"),
    InferenceFailed: Status("INTERNAL", 500, "BACKEND"),
    ServerUnreachable: Status("UNAVAILABLE", 503, "OTHER"),
}

UNEXPECTED = Status("INTERNAL", 500, "OTHER")


def status_of(error: BaseException) -> Status:
    """The status of an error; INTERNAL for one that nobody raised on purpose."""
    return next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), UNEXPECTED)


CODES: dict[str, type[ServingError]] = {
    "INVALID_ARGUMENT": InvalidInput,
    "OUT_OF_RANGE": InvalidInput,
    "ALREADY_EXISTS": InvalidInput,
    "NOT_FOUND": ModelNotFound,
    "FAILED_PRECONDITION": ArtifactError,
    "UNAVAILABLE": ServerUnreachable,
    "ABORTED": ServerUnreachable,
    "RESOURCE_EXHAUSTED": Overloaded,
    "DEADLINE_EXCEEDED": DeadlineExceeded,
    "CANCELLED": Cancelled,
    "UNAUTHENTICATED": Unauthenticated,
    "PERMISSION_DENIED": PermissionDenied,
    "UNIMPLEMENTED": Unimplemented,
}
"""The error that a client raises for a gRPC status which says no more; `InferenceFailed` for all others."""

CLASS_HEADER = "error-class"
"""Trailing metadata of a failed call: name of the error's class, where many share a status code."""


def error_of(code: str, message: str, *, kind: str | None = None, retry_after: float = 0.0) -> ServingError:
    """The error behind a gRPC status, on the client's side.

    Args:
        code: name of a `grpc.StatusCode`.
        message: of the status.
        kind: what the server sent as `CLASS_HEADER`; believed if it goes with the code.
        retry_after: seconds that the server asks to wait; negative for "not here again".
    """
    named = {error.__name__: error for error, status in STATUS.items() if status.grpc == code}
    found = named.get(kind or "", CODES.get(code, InferenceFailed))
    if issubclass(found, Overloaded):
        return found(message, retry_after)
    if issubclass(found, ServingError):
        return found(message)
    return InferenceFailed(message)
