"""Imports everything that the worker of a private stack needs, before that is forked."""

from __future__ import annotations

from qmodal_workers import cli, worker
from qmodal_workers.spawn import template_process

__all__ = ["cli", "template_process", "worker"]
