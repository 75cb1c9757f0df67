"""Everything that a worker of a private stack imports; done before it is forked."""

from __future__ import annotations

from qmodal_workers import cli, forking, worker

__all__ = ["cli", "forking", "worker"]
