"""The exceptions that programs may catch; a class's first docstring line is its default message."""

from __future__ import annotations


class Error(Exception):
    """Something qmodal was asked to do could not be done."""

    def __init__(self, *args: object) -> None:
        super().__init__(*(args or ((self.__doc__ or "").splitlines()[0],)))


class InvalidError(Error):
    """The program asks for something that has no meaning; change the program."""


class ConflictError(InvalidError):
    """The request contradicts what already exists."""


class TimeoutError(Error):
    """Something took longer than it may."""


class FunctionTimeoutError(TimeoutError):
    """The function ran longer than its `timeout`; raise the limit or make it faster."""


class OutputExpiredError(TimeoutError):
    """The result is gone: it expired, was already delivered, or the call never existed."""


class InteractiveTimeoutError(TimeoutError):
    """Nobody attached to the interactive session in time."""


class NotFoundError(Error):
    """There is nothing of that name."""


class AlreadyExistsError(Error):
    """Something of that name exists already."""


class AuthError(Error):
    """The signing key is missing or is not the one this server was used with."""


class PermissionDeniedError(Error):
    """The Redis user may not do this; grant the commands and keys that docs name."""


class ResourceExhaustedError(Error):
    """The server has no room left."""


class RemoteError(Error):
    """The remote side failed or was cancelled, and left no exception object."""


class ExecutionError(Error):
    """qmodal was used in a state in which this cannot work."""


class SerializationError(Error):
    """A value could not be turned into bytes."""


class DeserializationError(Error):
    """Bytes could not be turned back into a value here."""


class RequestSizeError(Error):
    """The arguments or the result are larger than the limit."""


class ConnectionError(Error):
    """Redis cannot be reached; check QMODAL_REDIS_URL and that the server is up."""


class InternalFailure(Error):
    """qmodal contradicts itself; please report this."""


class ClientClosed(Error):
    """The connection to Redis was closed; start the app again."""


class VersionError(Error):
    """The two sides run versions of Python that cannot exchange this value."""


class EnqueueError(Error):
    """Redis refused the call, so nothing was accepted; free memory or disk on the server and retry."""


class WorkerLost(RemoteError):
    """The input was lost with its container as often as its budget allows."""


class ConfigurationError(Error):
    """A setting or the server's configuration stops qmodal; the message says which."""


class DeprecationError(UserWarning):
    """An old name was used; the message names the new one."""


class ServerWarning(UserWarning):
    """The server reports something that a person should look at."""


class AsyncUsageWarning(UserWarning):
    """A blocking call inside a running event loop; use its `.aio` form."""


class InputCancellation(BaseException):
    """The running input was cancelled; a BaseException so that `except Exception` lets it pass."""


class InputTimeout(BaseException):
    """The running input reached its time limit; a BaseException for the same reason."""
