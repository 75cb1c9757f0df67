"""A worker of rq that runs the control plane's jobs in a thread of this process, one after another.

A process for each job, as rq's usual worker has it, takes 8 ms a job. Ours are some commands each, and bound
themselves, so nothing is gained by it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from redis import Redis
from redis.exceptions import RedisError, ResponseError
from rq import Queue
from rq.exceptions import DequeueTimeout, StopRequested
from rq.job import Job, JobStatus
from rq.serializers import JSONSerializer
from rq.suspension import is_suspended
from rq.timeouts import BaseDeathPenalty
from rq.worker import SimpleWorker

from qmodal.services.control.jobs.queues import KEEP_DONE, KEEP_FAILED, READ_SECONDS, JobQueue
from qmodal.telemetry.events import CONTROL_TROUBLE, emit
from qmodal.transport.defects import survive

# How often the registries of rq are cleared of what has ended or was lost, and a worker says that it lives.
MAINTENANCE_SECONDS, HEARTBEAT_SECONDS = 60, 5.0
# rq takes a worker for dead after this.
WORKER_SECONDS = 60
WAIT_SECONDS = 1
SUSPENSION_SECONDS = 1.0
AGAIN_SECONDS = 0.2


class _Unbounded(BaseDeathPenalty):
    """No time limit: rq's own ones are signals, which only a main thread gets."""

    def setup_death_penalty(self) -> None:
        """Nothing."""

    def cancel_death_penalty(self) -> None:
        """Nothing."""


class ControlWorker(SimpleWorker):
    """Takes jobs of one queue until `stop` is set: with one queue, rq loses no job when a worker dies."""

    death_penalty_class: type[BaseDeathPenalty] = _Unbounded
    log_result_lifespan = False

    def __init__(
        self,
        jobs: JobQueue,
        connection: Redis,
        name: str,
        stop: threading.Event,
        failed: Callable[[], None],
    ) -> None:
        self._stop_event = stop
        self._failed = failed
        self._beat = self._asked = 0.0
        self._said = ""
        self.lost: Exception | None = (
            None  # why the server could not be reached, which ends the worker
        )
        super().__init__(
            [jobs.queue],
            name=name,
            connection=connection,
            job_class=jobs.queue.job_class,
            serializer=JSONSerializer,
            maintenance_interval=MAINTENANCE_SECONDS,
            worker_ttl=WORKER_SECONDS,
            log_job_description=False,
        )

    @property
    def connection_timeout(self) -> int:
        """What the connection has already: rq would wait a minute for a server that says nothing."""
        return READ_SECONDS

    def bootstrap(self, *_levels: Any, **_formats: Any) -> None:
        """Become known. rq's channel of commands is not listened to: anybody could send them."""
        super().register_birth()
        self.set_state("started")

    def _install_signal_handlers(self) -> None:
        """Signals are for the service."""

    def unsubscribe(self) -> None:
        """There is nothing to leave."""

    def procline(self, message: str) -> None:
        """The process keeps its name: it does more than this."""

    def set_state(self, state: Any, pipeline: Any = None) -> None:
        """As rq does, if it is news."""
        if pipeline is not None or state != self._said:
            self._said = state
            super().set_state(state, pipeline=pipeline)

    def heartbeat(self, timeout: int | None = None, pipeline: Any = None) -> None:
        """As rq does, every few seconds: it asks for that five times a job."""
        now = time.monotonic()
        if now - self._beat > HEARTBEAT_SECONDS:
            self._beat = now
            with self._until_lost():
                super().heartbeat(timeout, pipeline)

    def run_maintenance_tasks(self) -> None:
        """As rq does."""
        with self._until_lost():
            super().run_maintenance_tasks()

    def check_for_suspension(self, burst: bool) -> None:
        """Wait while rq's jobs are held (`rq suspend`), which is asked every second."""
        now = time.monotonic()
        if now - self._asked <= SUSPENSION_SECONDS:
            return
        self._asked = now
        with self._until_lost():
            while is_suspended(self.connection) and not self._stop_event.wait(SUSPENSION_SECONDS):
                self.heartbeat()

    @contextmanager
    def _until_lost(self) -> Iterator[None]:
        """End the worker if the server is lost: any other exception in its loop rq would log with a traceback."""
        try:
            yield
        except (RedisError, OSError) as error:
            self.lost = error
            raise StopRequested from error

    def execute_job(self, job: Job, queue: Queue) -> None:
        """Run the job; raises StopRequested if the server is lost."""
        with self._until_lost():
            self._execute(job, queue)

    def _execute(self, job: Job, queue: Queue) -> None:
        """Run the job. One that ends well takes one write, and not the dozen of rq's records of who runs what.

        Those are for jobs that take minutes. One that is lost with its process is put in line again by the ticker.
        """
        try:
            job.perform()
        except Exception as error:
            if isinstance(error, RedisError):
                raise
            job.failure_ttl = KEEP_FAILED  # whoever has written the job
            execution = self.prepare_execution(job)
            self.prepare_job_execution(job, remove_from_intermediate_queue=True)
            self._finalize_failure(job, queue, execution, (type(error), error, error.__traceback__))
            self._failed()
            return
        with self.connection.pipeline() as writes:
            writes.lrem(queue.intermediate_queue_key, 1, job.id)
            job.set_status(JobStatus.FINISHED, pipeline=writes)
            writes.expire(job.key, KEEP_DONE)
            queue.finished_job_registry.add(job, KEEP_DONE, writes)
            writes.execute()

    def dequeue_job_and_maintain_ttl(
        self, timeout: int | None, max_idle_time: int | None = None
    ) -> tuple[Job, Queue]:
        """The next job; raises StopRequested once the process is to stop, or if the server is lost."""
        with self._until_lost():
            return self._dequeue()

    def _dequeue(self) -> tuple[Job, Queue]:
        self.set_state("idle")
        while not self._stop_event.is_set():
            self.heartbeat()
            if self.should_run_maintenance_tasks:
                self.run_maintenance_tasks()
            try:
                found: tuple[Job, Queue] | None = self.queue_class.dequeue_any(
                    self._ordered_queues,
                    WAIT_SECONDS,
                    connection=self.connection,
                    job_class=self.job_class,
                    serializer=self.serializer,
                    death_penalty_class=self.death_penalty_class,
                )
            except DequeueTimeout:
                continue
            if found is not None:
                return found
        raise StopRequested


def work(
    jobs: JobQueue, connection: Redis, name: str, stop: threading.Event, failed: Callable[[], None]
) -> None:
    """Run jobs until `stop` is set, whatever happens to the server or is found in the queue.

    `failed` is called for each job that has failed.
    """
    for each in ("rq.worker", "rq.job", "rq.queue", "rq.registry"):
        logging.getLogger(each).setLevel(logging.ERROR)
    number, is_told = 0, False
    while not stop.is_set():
        number += 1
        # rq does not expect what anybody may have written into its keys, and raises whatever that leads to.
        with survive(f"the jobs of {jobs.name}"):
            try:
                jobs.announce()
                # The name of one that was cut off is not free yet.
                made = f"{name}.{jobs.name}.{number}"
                worker = ControlWorker(jobs, connection, made, stop, failed)
                worker.work()
                lost = worker.lost
            except (RedisError, OSError) as error:
                lost = error
            if isinstance(lost, ResponseError):
                jobs.mend()
            if (
                lost is not None and not is_told and not stop.is_set()
            ):  # once for each time it is away
                emit(CONTROL_TROUBLE, activity=f"{name} waits for the server", reason=str(lost))
            is_told = lost is not None
        stop.wait(AGAIN_SECONDS)
