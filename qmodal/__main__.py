"""`python -m qmodal` is `qmodal`."""

from __future__ import annotations

from qmodal.cli import main

if __name__ == "__main__":
    main()
