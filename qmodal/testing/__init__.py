"""Testing programs that use qmodal: a pytest plugin with a stack for the session, and an eager mode that needs none.

>>> from qmodal.testing import eager
>>> with eager():
...     assert square.remote(3) == 9
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["eager"]


@contextmanager
def eager() -> Iterator[None]:
    """Meanwhile calls of all apps in this process run in it, without a server: a context manager and a decorator.

    Arguments and results are copies, and errors are what they are from containers. What needs a server, such as
    `app.deploy()` or a Dict, raises UnimplementedError.
    """
    from qmodal.testing.eager_mode import eager_mode

    with eager_mode():
        yield
