"""Apps that include others: where the functions of an included app are published."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qmodal.app.app import App


def included(app: App) -> set[App]:
    """The apps that it includes, and those that they include."""
    found: set[App] = set()
    following = [*app._includes]
    while following:
        each = following.pop()
        if each not in found:
            found.add(each)
            following += each._includes
    return found


def note_publisher(app: App) -> None:
    """The apps that it includes find their functions with it for as long as it is published.

    They keep it no longer than that: a module's app may be included by many, one after another.
    """
    for each in included(app):
        each._published_by = [other for other in each._published_by if other is not app]
        if app._version is not None:
            each._published_by.append(app)
