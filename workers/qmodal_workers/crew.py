"""Everything that a worker of a private stack imports; done before it is forked."""

from __future__ import annotations

from qmodal_workers import cli, worker
from qmodal_workers.spawn import template_process as forking

__all__ = ["cli", "forking", "worker"]
