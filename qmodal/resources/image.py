"""Image: the recipe of a container's file system, recorded; boxes have one environment for all."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from qmodal.exception import InvalidError, UnimplementedError
from qmodal.spec.resource import ImageResource

log = logging.getLogger("qmodal")
NOT_BUILT = (
    "qmodal builds no images: the containers of a box use the Python environment of its worker. "
    "Install there what the program needs."
)


class Step:
    """A method of Image that adds itself to the recipe; on the class it begins one."""

    __slots__ = ("_name",)

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, image: Image | None, owner: type[Image]) -> Callable[..., Image]:
        name, before = self._name, () if image is None else image.steps
        env: Mapping[str, str] = {} if image is None else image.environ

        def step(*args: Any, **kwargs: Any) -> Image:
            return Image._made((*before, (name, args, kwargs)), env)

        return step


class Unbuilt:
    """A method of Image that would need a built one: it raises UnimplementedError."""

    __slots__ = ("_name",)

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, image: Image | None, owner: type[Image]) -> Callable[..., Any]:
        name = self._name

        def refuse(*_args: Any, **_kwargs: Any) -> Any:
            raise UnimplementedError(f"`Image.{name}` cannot work: {NOT_BUILT}")

        return refuse


class Image(ImageResource):
    """What containers should find installed; each method returns a new Image.

    Recorded with the app and not built. Only `env` has an effect: its variables are set.

    >>> image = qmodal.Image.debian_slim().pip_install("numpy").env({"MODE": "fast"})
    """

    __slots__ = ("environ", "missing", "steps")
    steps: tuple[tuple[str, tuple[Any, ...], Mapping[str, Any]], ...]
    environ: Mapping[str, str]
    missing: list[ImportError]  # what `imports` has caught

    def __init__(self) -> None:
        raise InvalidError(
            "Begin an Image with `Image.debian_slim()` or `Image.from_registry(...)`."
        )

    @classmethod
    def _made(cls, steps: tuple[Any, ...], environ: Mapping[str, str]) -> Image:
        image = object.__new__(cls)
        image.__setstate__((steps, environ))
        return image

    def __repr__(self) -> str:
        return f"Image({' -> '.join(name for name, _, _ in self.steps)})"

    def __getstate__(self) -> tuple[Any, ...]:
        return self.steps, self.environ

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.steps, self.environ = state
        self.missing = []

    debian_slim = Step()
    micromamba = Step()
    from_aws_ecr = Step()
    from_dockerfile = Step()
    from_gcp_artifact_registry = Step()
    from_id = Step()
    from_name = Step()
    from_registry = Step()
    from_scratch = Step()
    add_local_dir = Step()
    add_local_file = Step()
    add_local_python_source = Step()
    apt_install = Step()
    cmd = Step()
    dockerfile_commands = Step()
    entrypoint = Step()
    micromamba_install = Step()
    pip_install = Step()
    pip_install_from_pyproject = Step()
    pip_install_from_requirements = Step()
    pip_install_private_repos = Step()
    poetry_install_from_file = Step()
    run_commands = Step()
    run_function = Step()
    shell = Step()
    uv_pip_install = Step()
    uv_sync = Step()
    workdir = Step()
    # Names of earlier versions of Modal.
    copy_local_dir = Step()
    copy_local_file = Step()
    copy_mount = Step()

    build = Unbuilt()
    client = Unbuilt()
    get_dashboard_url = Unbuilt()
    logs = Unbuilt()
    publish = Unbuilt()

    def env(self, variables: Mapping[str, str]) -> Image:
        """The same with these environment variables, which containers do get."""
        for name, value in variables.items():
            if not all(isinstance(each, str) for each in (name, value)):
                raise InvalidError(f"Image.env() takes strings; {name!r} has another value")
        return self._made((*self.steps, ("env", (), {})), {**self.environ, **variables})

    def pipe(self, /, func: Callable[..., Image], *args: Any, **kwargs: Any) -> Image:
        """What the function makes of this Image."""
        return func(self, *args, **kwargs)

    def hydrate(self, client: Any = None) -> Image:
        """Itself: there is nothing to find out."""
        return self

    @property
    def object_id(self) -> str:
        """Raises AttributeError: an Image is not built and has no id."""
        raise AttributeError(f"an Image has no object_id. {NOT_BUILT}")

    @contextmanager
    def imports(self) -> Iterator[None]:
        """Imports inside may fail where the module is not installed, such as on the caller's machine.

        Containers of functions with this image fail to start with the ImportError, those of others go on without.
        """
        try:
            yield
        except ImportError as error:
            self.missing.append(error)
            log.info("image.imports(): %s; the program goes on without it", error)

    def check_imports(self) -> None:
        """Raise the first ImportError of an `imports` block, with a note that says what to do."""
        for error in self.missing:
            what = error.name.partition(".")[0] if error.name else "it"
            text = f"Containers use the Python environment of their worker: install {what} there."
            error.__notes__ = [f"`image.imports()`: {text}"]
            raise error

    def to_plain(self) -> dict[str, Any]:
        """What the app's version records of it; values of variables travel with the options."""
        shown = [[name, [repr(each) for each in args]] for name, args, _ in self.steps]
        return {"kind": "Image", "steps": shown}
