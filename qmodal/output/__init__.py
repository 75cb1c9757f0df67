"""What containers print, on the screen and as log entries, and the progress bars of maps."""

from __future__ import annotations

from qmodal.output.screen import enable_output as enable_output
