"""A class whose instances each have a pool: its marked methods, its hooks and its instances."""

from __future__ import annotations

from qmodal.cls.cls import Cls as Cls, Obj as Obj
