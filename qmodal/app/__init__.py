"""What a program declares: an App, its functions and classes, web functions and local entrypoints."""

from __future__ import annotations

from qmodal.app.app import App as App, LocalEntrypoint as LocalEntrypoint
