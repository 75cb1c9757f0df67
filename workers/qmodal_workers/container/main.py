"""The body of a container process, forked from a template or started afresh."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import closing, suppress
from functools import partial
from typing import NoReturn, Protocol, TypedDict

from qmodal.client import client as clients, context
from qmodal.config import Settings
from qmodal.spec.reader import check_version_for, verified_pool
from qmodal.spec.variables import ContainerVariables
from qmodal.spec.variant import options_in_force
from qmodal.store.pools import MOST_HELD, MOST_SIDE_BY_SIDE
from qmodal.transport import waiting
from qmodal.wire.remote_error import explained, printed
from qmodal_workers.container.intake.claim_connection import ClaimConnection
from qmodal_workers.container.intake.stop import StopRequest
from qmodal_workers.container.lease_guard import LeaseGuard
from qmodal_workers.container.preload import find, load_version
from qmodal_workers.container.prepared import Prepared
from qmodal_workers.container.process import forked_children, otel_setup, plain_process
from qmodal_workers.container.process.become import become, own_streams, reseed
from qmodal_workers.container.process.forked_children import end_if_child
from qmodal_workers.container.process.output_marks import OutputMarks
from qmodal_workers.container.process.own_output import flush, show
from qmodal_workers.container.run.admission import Admission
from qmodal_workers.container.run.input_spans import InputSpans
from qmodal_workers.container.run.interrupts import Interrupts
from qmodal_workers.container.run.invoker import Invoker
from qmodal_workers.container.run.service import Service, build_service
from qmodal_workers.container.run.user_loop import UserLoop
from qmodal_workers.container.serve import ServeSession
from qmodal_workers.container.settle.failure_notes import FailureNotes
from qmodal_workers.container.settle.rerouting import Rerouting
from qmodal_workers.container.settle.settlement import Settlement
from qmodal_workers.ipc.process_marks import mark_process
from qmodal_workers.ipc.process_usage import cpu_seconds
from qmodal_workers.ipc.shared_record import ContainerStatus, SharedRecord
from qmodal_workers.ipc.start_request import ControlSocket, Descriptors, StartRequest

REPLACED = "a newer version has replaced it"


class Session(Protocol):
    """What a container does between its start and its end; `stop` says why it has ended by itself."""

    @property
    def record(self) -> SharedRecord:
        """What it shares with its worker."""

    @property
    def claims(self) -> ClaimConnection:
        """What it claims with."""

    @property
    def guard(self) -> LeaseGuard | None:
        """What ends the container with its lease, if its inputs never run again."""

    @property
    def stop(self) -> StopRequest:
        """Whether and why it has ended by itself."""

    @property
    def completed(self) -> int:
        """How many inputs have ended here."""

    def run(self) -> None:
        """Serve until told to stop; everything claimed is settled or given back at the end."""


class _Parts(TypedDict):
    """What a session of either kind is made of."""

    record: SharedRecord
    claims: ClaimConnection
    settlement: Settlement
    service: Service
    invoker: Invoker
    rerouting: Rerouting
    marks: OutputMarks


def run(
    request: StartRequest,
    descriptors: Descriptors,
    *,
    prepared: Prepared | None = None,
) -> NoReturn:
    """Be that container until the end of the process; user code never outlives this call.

    `prepared`: what the template has made already, which then has imported the version's modules.
    """
    status = 1
    forked_children.watch()
    try:
        become(descriptors, parent=request.parent)
        mark_process(request.mark)
        if request.processors:
            with suppress(OSError):  # they may have been taken from the box meanwhile
                os.sched_setaffinity(0, request.processors)
        status = _serve(request, descriptors, prepared)
    except BaseException as error:
        show(printed(error))
    finally:
        try:
            flush()
        finally:
            os._exit(status)


def _serve(request: StartRequest, descriptors: Descriptors, prepared: Prepared | None) -> int:
    with closing(ControlSocket(descriptors.control)) as control:
        return _live(request, control, SharedRecord(descriptors.record), prepared)


def _live(
    request: StartRequest, control: ControlSocket, record: SharedRecord, prepared: Prepared | None
) -> int:
    begin = time.monotonic()
    record.write(ContainerStatus())
    marks = OutputMarks(record.output, own_streams())
    control.send(pid=os.getpid())
    try:
        base = prepared or Prepared.create(request.version, Settings.from_environ(request.settings))
        _set_variables(request, base, is_forked=prepared is not None)
        loop = UserLoop()
        service, session = _start(
            request, record, marks, loop, base, is_loaded=prepared is not None
        )
        if session.guard is not None:
            session.guard.start()
        connection = session.claims.connect_first()
        if session.claims.is_gone:
            session.stop.make(REPLACED)
    except BaseException as error:
        end_if_child(error)
        text = explained(error)
        control.send(failed=text)
        show(text)
        return 1
    prepared_in = int((time.monotonic() - begin) * 1000)
    cpu = int(cpu_seconds([os.getpid()]) * 1000)
    control.send(ready=prepared_in, connection=connection, cpu=cpu)
    session.run()
    return _end(session, control, partial(_leave, service, loop))


def _set_variables(request: StartRequest, base: Prepared, *, is_forked: bool) -> None:
    """Set the variables; a forked container has those of its image and its secrets from its template."""
    variables = ContainerVariables.unpack(request.variables)
    plain_process.set_variables(
        variables.own if is_forked else variables.opened(base.client.signer)
    )


def _start(
    request: StartRequest,
    record: SharedRecord,
    marks: OutputMarks,
    loop: UserLoop,
    base: Prepared,
    *,
    is_loaded: bool,
) -> tuple[Service, Session]:
    client, version = base.client, base.version
    clients.use(client)
    waiting.log.disabled = True  # the worker says it once for the box
    context.serve()
    reseed()
    pool = verified_pool(request.spec, client.signer, request.pool)
    check_version_for(version, pool)
    if not is_loaded:
        load_version(version, request.code)
    service = base.service or build_service(*find(version, pool), loop)
    options = options_in_force(version.functions[pool.function], pool)
    interrupts = Interrupts(record, loop)
    forked_children.watch(interrupts.disarm)
    with interrupts.entering():
        service.enter(loop)
    end_if_child()
    # An app does things by itself between requests, for which its loop has to run. Where no callable is
    # plain code, the loop also claims, which answers a request sooner.
    is_web = service.web is not None and (service.web.needs_loop or service.is_async)
    is_concurrent = options.is_concurrent or is_web
    rerouting = Rerouting(client, version.app_id, version.number, pool.number > 0)
    otel_setup.begin()
    spans = InputSpans(
        version.app_id, pool.function, version.number, request.container, service.web is not None
    )
    parts = _Parts(
        record=record,
        claims=ClaimConnection(
            client,
            request.pool,
            request.container,
            is_once=options.is_once,
            most_held=MOST_SIDE_BY_SIDE if is_concurrent else MOST_HELD,
            number=0 if pool.number else version.number,
            connection=base.connection,
            on_settled=spans.settled,
        ),
        settlement=Settlement(
            client=client,
            pool=request.pool,
            container=request.container,
            options=options,
            admission=Admission(client, request.pool),
            tally=record.tally,
            notes=FailureNotes(
                client,
                request.pool,
                version.app_id,
                pool.function,
                request.container,
                service.generators.union(service.web.specs if service.web else ()),
            ),
            spans=spans,
        ),
        service=service,
        invoker=Invoker(
            container=request.container,
            function=pool.label,
            most=1 if options.retries is None else 1 + options.retries.max_retries,
            plain_only=client.settings.payloads == "plain",
            timeout=float(options.timeout),
            loop=loop,
            interrupts=interrupts,
            has_newer_code=rerouting.has_newer_code,
        ),
        rerouting=rerouting,
        marks=marks,
    )
    if is_concurrent:
        return service, _concurrent(parts, loop)
    return service, ServeSession.create(**parts, interrupts=interrupts)


def _concurrent(parts: _Parts, loop: UserLoop) -> Session:
    # Not with the others: as a rule a container runs one input at a time, and needs no threads for it.
    from qmodal_workers.container.concurrent.session import ConcurrentSession

    return ConcurrentSession.create(**parts, loop=loop)


def _end(session: Session, control: ControlSocket, leave: Callable[[], None]) -> int:
    """Run the exit hooks with `leave`, and what plain processes run at exit; the exit status."""
    if session.stop.is_made:
        stop = session.stop
        control.send(stop=stop.reason, unfit=stop.is_unfit, gives_way=stop.gives_way)
    status = 0
    for end in (leave, plain_process.end):
        try:
            end()
            end_if_child()
        except BaseException as error:
            end_if_child(error)
            show(printed(error))
            status = 1
    completed = session.completed
    session.record.write(ContainerStatus(state="stopped", completed=completed))
    session.claims.close()
    clients.current().close()
    return status


def _leave(service: Service, loop: UserLoop) -> None:
    service.leave(loop)
    loop.close()
