"""The exceptions that programs may catch; a class's first docstring line is its default message."""

from __future__ import annotations

import os
import signal

# What has not ended so long after an interruption is killed.
PREEMPTION_SECONDS = 30.0


class Error(Exception):
    """Something qmodal was asked to do could not be done."""

    def __init__(self, *args: object) -> None:
        # An interpreter that was told `-OO` has no docstrings.
        text = self.__doc__ or type(self).__name__
        super().__init__(*(args or (text.splitlines()[0],)))


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


class CallCancelled(RemoteError):
    """The call was cancelled."""


class WorkerLost(RemoteError):
    """The input was lost with its container as often as its budget allows."""


class ConfigurationError(Error):
    """A setting or the server's configuration stops qmodal; the message says which."""


class UnimplementedError(Error, NotImplementedError):
    """Modal offers this and qmodal does not (yet); the message says what to use instead."""


# Programs name the following in `except` clauses; qmodal itself raises none of them.


class InternalError(Error):
    """Something went wrong inside."""


class ServiceError(Error):
    """The service could not answer."""


class DataLossError(Error):
    """Data were lost."""


class LogsFetchError(Error):
    """Logs could not be read."""


class SnapshotCreationError(Error):
    """A snapshot could not be taken."""


class WorkspaceManagementError(Error):
    """A workspace could not be changed."""


class ImageBuildError(RemoteError):
    """An image could not be built."""


class ExecTimeoutError(TimeoutError):
    """A command took longer than it may."""


class MountUploadTimeoutError(TimeoutError):
    """Files took too long to upload."""


class VolumeUploadTimeoutError(TimeoutError):
    """A volume's files took too long to upload."""


class SandboxTimeoutError(TimeoutError):
    """A sandbox took longer than it may."""


class SandboxTerminatedError(Error):
    """A sandbox was ended."""


class SandboxFilesystemError(Error):
    """A file of a sandbox could not be used."""


class SandboxFilesystemNotFoundError(SandboxFilesystemError):
    """There is no such file in the sandbox."""


class SandboxFilesystemPermissionError(SandboxFilesystemError):
    """The sandbox's file may not be used so."""


class SandboxFilesystemIsADirectoryError(SandboxFilesystemError):
    """The path in the sandbox is a folder."""


class SandboxFilesystemNotADirectoryError(SandboxFilesystemError):
    """The path in the sandbox is no folder."""


class SandboxFilesystemDirectoryNotEmptyError(SandboxFilesystemError):
    """The folder in the sandbox is not empty."""


class SandboxFilesystemFileTooLargeError(SandboxFilesystemError):
    """The sandbox's file is too large."""


class SandboxFilesystemPathAlreadyExistsError(SandboxFilesystemError):
    """The path exists already in the sandbox."""


class ModuleNotMountable(Exception):
    """A module's files could not be found."""


class UserCodeException(Exception):
    """Held an exception of a map's input, when maps still wrapped those that they return."""


class DeprecationError(UserWarning):
    """An old name was used; the message names the new one."""


class ServerWarning(UserWarning):
    """The server reports something that a person should look at."""


class InternalAPIWarning(UserWarning):
    """An internal name was used, which may change."""


class AsyncUsageWarning(UserWarning):
    """A blocking call inside a running event loop; use its `.aio` form."""


class InputCancellation(BaseException):
    """The running input was cancelled; a BaseException so that `except Exception` lets it pass."""


class InputTimeout(BaseException):
    """The running input reached its time limit; a BaseException for the same reason."""


def simulate_preemption(wait_seconds: float, jitter_seconds: float = 0) -> None:
    """Interrupt this container after that time, as if its box were taken away.

    The running input sees KeyboardInterrupt (in async code CancelledError), exit hooks run, and the
    input starts again elsewhere; what still runs 30 s later is killed. Raises ValueError for a wait
    that is not above 0, InvalidError outside a container.
    """
    if not wait_seconds > 0:
        raise ValueError("`wait_seconds` must be greater than 0")
    if os.environ.get("MODAL_IS_REMOTE") != "1":
        raise InvalidError(
            "simulate_preemption works only in a container; call it from a function."
        )
    import random

    delay = wait_seconds + random.random() * jitter_seconds
    _signal_after(delay, signal.SIGINT)
    _signal_after(delay + PREEMPTION_SECONDS, signal.SIGKILL)


def _signal_after(seconds: float, number: signal.Signals) -> None:
    import threading

    timer = threading.Timer(seconds, os.kill, (os.getpid(), number))
    timer.daemon = True
    timer.start()


def clause(text: object) -> str:
    """A text such as an error's without its full stop, so that the sentence can go on behind it."""
    return str(text).strip().rstrip(".")
