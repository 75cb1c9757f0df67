"""Events: what happens in workers, autoscalers, gateways and control processes and is worth a line, each in one table with its fields.

Whoever emits names the ids of what it happened to; log lines and tests read them. Where nobody listens at an event's
level, to emit it costs one question.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass, field

log = logging.getLogger("qmodal.events")
# Where a record of the logger has its event, and the values of its fields.
EVENT, FIELDS = "qmodal_event", "qmodal_fields"
TABLE: dict[str, Event] = {}


@dataclass(frozen=True, slots=True)
class Event:
    """A kind of event: its name, its level, the line that people read, and what it means.

    `line` names fields in braces; `fields` are all that it has: those of the line, and ids beside them. `log`: the
    logger of its records.
    """

    name: str
    level: int
    line: str
    meaning: str
    ids: tuple[str, ...] = ()
    log: logging.Logger = log
    fields: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        named = {re.split("[}:]", part)[0] for part in self.line.split("{")[1:]}
        object.__setattr__(self, "fields", frozenset({*named, *self.ids}))
        TABLE[self.name] = self


def emit(event: Event, error: BaseException | None = None, /, **fields: object) -> None:
    """It has happened; `fields` are those of the event, and the traceback of `error` follows if it is given."""
    if event.log.isEnabledFor(event.level):
        extra = {EVENT: event.name, FIELDS: fields}
        event.log.log(event.level, "%s", event.line.format_map(fields), exc_info=error, extra=extra)


_CONTAINER = ("container", "worker", "app", "function", "pool")
_INFO, _WARNING, _ERROR = logging.INFO, logging.WARNING, logging.ERROR

# Of any process, callers and containers included.
WORK_FAILED = Event(
    "work.failed",
    _WARNING,
    "{activity} failed{times}: {reason}",
    "A loop goes on although this failed; said the first time, and whenever the number of times has doubled.",
)
WORK_DEFECT = Event(
    "work.defect",
    _ERROR,
    "{activity} failed unexpectedly{times}: {reason}",
    "As `work.failed`, for what nobody has thought of.",
)
FOREIGN_SKIPPED = Event(
    "foreign.skipped",
    _WARNING,
    "{where}: left out{times}, as {reason}",
    "Something in Redis that qmodal has not written, or cannot read; said as `work.failed` is.",
)
SERVER_NOT_READY = Event(
    "server.not_ready",
    _WARNING,
    "Redis at {server} is not ready ({reason}); waiting for it for up to {seconds:.0f} s",
    "The server answers and is not ready: it loads its data, or has no place for a client; said once a minute.",
    log=logging.getLogger("qmodal.waiting"),
)
CALL_WAITS = Event(
    "call.waits",
    _WARNING,
    "qmodal: {label} waits: {reason}",
    "Nobody works on a pool that this process waits for; said after 3 s, once for each reason.",
    ("pool",),
    log=logging.getLogger("qmodal.calls"),
)
FUNCTION_IMPOSSIBLE = Event(
    "function.impossible",
    _WARNING,
    "qmodal: no box can run {label}, which needs {needs}: {lacks}",
    "A function was published whose needs no box meets that is there; one that meets them may join later.",
    ("app",),
    log=logging.getLogger("qmodal.calls"),
)
INBOX_TROUBLE = Event(
    "inbox.trouble",
    _WARNING,
    "{activity}: {reason}",
    "A message of a streamed request could not be read or written; the request fails if one is missing.",
    ("inbox",),
)

# Of workers.
WORKER_ENROLLED = Event(
    "worker.enrolled",
    _INFO,
    "{worker} offers this machine to {server}: {cpus} CPUs, {memory}, up to {containers} containers{labels}, "
    "signing key {key}",
    "A worker has begun, or come back under a new id; `key` as `qmodal doctor` shows it.",
)
WORKER_GIVEN_UP = Event(
    "worker.given_up",
    _WARNING,
    "{worker} was given up; coming back under a new id",
    "The lease of this worker has ended, so its containers were killed; their inputs run elsewhere.",
)
BOX_LOST = Event(
    "box.lost",
    _WARNING,
    "{worker}: it was lost; what it held is given back",
    "The lease of another box has ended, and this process has put its inputs back in line.",
)
GPU_LOST = Event(
    "gpu.lost",
    _WARNING,
    "GPU {gpu} is lost: {reason}; it is not offered any more, and what ran on it runs elsewhere",
    "The driver does not list a GPU, says that it is lost, or reports an Xid of it; its containers are ended.",
)
GPU_BACK = Event(
    "gpu.back",
    _INFO,
    "GPU {gpu} is well again, and offered",
    "A GPU that was lost has looked well for half a minute, or five after an Xid.",
)
GPU_STRANGE = Event(
    "gpu.strange",
    _WARNING,
    "GPU {gpu} is not leased for now: {used} MiB of it are used by others",
    "Processes that no worker has started use memory of a GPU.",
)
CONTAINER_READY = Event(
    "container.ready",
    logging.DEBUG,
    "{container} is ready after {seconds:.2f} s",
    "A container can claim, so long after it was assigned.",
    _CONTAINER,
)
CONTAINER_ENDED = Event(
    "container.ended",
    _INFO,
    "{container} {state}: {reason}",
    "The process of a container has ended, and what it held is given back; `how` as in metrics.",
    (*_CONTAINER, "how"),
)
CONTAINER_NOT_STARTED = Event(
    "container.not_started",
    _WARNING,
    "{container} did not start: {reason}",
    "A container could not be given a process.",
    _CONTAINER,
)
CONTAINER_CUT_OFF = Event(
    "container.cut_off",
    _WARNING,
    "{container} ends: {reason}",
    "An at-most-once container was killed, because its worker cannot renew its lease.",
    _CONTAINER,
)
CONTAINER_FRESH = Event(
    "container.fresh",
    _WARNING,
    "{version}: {reason}",
    "Containers of an app are not forked from a template, which takes longer; said once.",
    _CONTAINER,
)
CONTAINER_ODD = Event(
    "container.odd",
    _WARNING,
    "{container} says what we do not understand",
    "A container, or user code in it, has written something else than a report.",
    _CONTAINER,
)
CONTAINER_HELD = Event(
    "container.held",
    _WARNING,
    "what {container} held is not given back yet: {reason}",
    "The server could not be reached at the end of a container; it is tried again.",
    _CONTAINER,
)
CONTAINER_UNCONCLUDED = Event(
    "container.unconcluded",
    _ERROR,
    "the end of {container} is not concluded yet",
    "Something unforeseen at the end of a container; it is tried again.",
    _CONTAINER,
)

# Of inputs, by workers and autoscalers; what containers make of them is in their outcomes and notes.
_INPUT = ("app", "function", "pool", "call", "input", "attempt", "container", "worker")
INPUT_INTERRUPTED = Event(
    "input.interrupted",
    _INFO,
    "{what} in {container} is to stop: {reason}",
    "The worker interrupts user code, because of a time limit or the end of its container.",
    (*_INPUT, "entry"),
)
INPUT_CANCELLED = Event(
    "input.cancelled",
    # One for each request whose client has left: a thousand in a moment, of which none is news.
    logging.DEBUG,
    "{what} in {container} is to stop: {reason}",
    "The worker interrupts user code, because its input was cancelled; `call` and `input` where the entry is still there.",
    (*_INPUT, "entry"),
)
INPUT_TIMED_OUT = Event(
    "input.timed_out",
    _WARNING,
    "{input} did not end at its time limit, and was ended with {container}",
    "The worker has settled the input as timed out, for a container that it had to kill.",
    _INPUT,
)
INPUT_RETRIED = Event(
    "input.retried",
    _INFO,
    "{input} did not end at its time limit, and gets another attempt in {delay:g} s",
    "As `input.timed_out`, and retries are left.",
    _INPUT,
)
INPUT_REDELIVERED = Event(
    "input.redelivered",
    _INFO,
    "{input} ran in {container}, which is gone, and runs again: {reason}",
    "An input was taken back from a container that has died; `attempt` is the one that has ended so.",
    _INPUT,
)
INPUT_LOST = Event(
    "input.lost",
    _WARNING,
    "{input} was lost with {container}, and does not run again: {reason}",
    "An input has lost as many containers as it may; its caller gets an error, and it is a dead letter.",
    _INPUT,
)
INPUTS_ENDED = Event(
    "inputs.ended",
    _INFO,
    "{label}: {count} inputs ended: {reason}",
    "Inputs that waited have ended: their app is stopped, or no container could be started.",
    ("app", "function", "pool"),
)

# Of autoscalers.
LEADER_BEGAN = Event(
    "leader.began",
    _INFO,
    "{autoscaler} leads with epoch {epoch}",
    "An autoscaler has begun to decide.",
)
LEADER_ENDED = Event(
    "leader.ended", _INFO, "{autoscaler} leads no more", "Another autoscaler may lead now."
)
LEADER_UNKNOWN = Event(
    "leader.unknown",
    _WARNING,
    "{autoscaler} cannot ask who leads: {reason}",
    "The server could not be asked; a leader goes on meanwhile.",
)
LEADER_FAILED = Event(
    "leader.failed",
    _ERROR,
    "{autoscaler} has failed as the leader, and tries again",
    "Something unforeseen has ended a leadership; the next one begins afresh.",
)
SCALING_CHANGED = Event(
    "scaling.changed",
    _INFO,
    "{label}: {reason}",
    "The leader has changed something about a pool, a box or an app, for this reason.",
    ("subject",),
)
SCALING_TROUBLE = Event(
    "scaling.trouble",
    _WARNING,
    "{label}: {reason}",
    "The leader cannot know or do something; said once, until that changes.",
    ("subject",),
)
SHORTAGE_BEGAN = Event(
    "shortage.began",
    _INFO,
    "{program} runs, as the boxes lack room: {wanted}",
    "The leader has started the command of `--on-shortage`; `wanted` is what it is given to read.",
)
SHORTAGE_OUTPUT = Event(
    "shortage.output",
    _INFO,
    "{program}: {line}",
    "A line that the command of `--on-shortage` has printed; of each run the first 8 KiB.",
)
SHORTAGE_ENDED = Event(
    "shortage.ended", _INFO, "{program} is done", "The command of `--on-shortage` has ended well."
)
SHORTAGE_FAILED = Event(
    "shortage.failed",
    _WARNING,
    "{program} has failed: {reason}",
    "The command of `--on-shortage` has ended with a status, was ended, or cannot be started.",
)

# Of gateways.
GATEWAY_REQUEST = Event(
    "gateway.request",
    _INFO,
    '{client} "{method} {path} HTTP/{http_version}" {status} {bytes} {seconds:.4f}s {request_id}',
    "A request or a websocket is over; written with `--access-log` only, without the query. `bytes` of the response's body; "
    "`status` is missing if the client left before.",
)
GATEWAY_WAITS = Event(
    "gateway.waits", _WARNING, "{reason}", "A gateway has started and cannot reach the server yet."
)
GATEWAY_DEFECT = Event(
    "gateway.defect",
    _ERROR,
    "{what}",
    "Something unforeseen at a request or a websocket, which was answered with 500.",
)
GATEWAY_TROUBLE = Event(
    "gateway.trouble",
    _WARNING,
    "{activity}: {reason}",
    "A gateway could not do something; a request that depends on it was answered with an error.",
)

# Of the control plane.
CONTROL_TROUBLE = Event(
    "control.trouble",
    _WARNING,
    "{activity}: {reason}",
    "A control process could not do something, and tries it again.",
)
CONTROL_REFUSED = Event(
    "control.refused",
    _WARNING,
    "job {job} is not run: {reason}",
    "A job in a queue of the control plane was put there by something else.",
)
SCHEDULE_LATE = Event(
    "schedule.late",
    _WARNING,
    "{app}.{function} ran {seconds:.1f} s late",
    "A slot of a schedule became a call later than 5 s after it was due.",
    ("call",),
)
SCHEDULE_FIRED = Event(
    "schedule.fired",
    logging.DEBUG,
    "{app}.{function} runs as {call}",
    "A slot of a schedule became a call.",
)
CHORE_FAILED = Event(
    "chore.failed",
    _WARNING,
    "chore {chore} has failed: {reason}",
    "A chore could not be done; it is done again after its interval.",
)
