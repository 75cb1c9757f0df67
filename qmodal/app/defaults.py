"""AppDefaults: the image, secrets and volumes of an app's functions and classes that name none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qmodal.exception import InvalidError
from qmodal.resources.image import Image
from qmodal.resources.secret import Secret
from qmodal.spec.checks import CHECKS
from qmodal.spec.options import FunctionOptions, validated_options


class AppDefaults:
    """The image, secrets and volumes given to an App; raises InvalidError for other objects."""

    __slots__ = ("_image", "_secrets", "_volumes")

    def __init__(self, image: Any, secrets: Any, volumes: Any) -> None:
        if not isinstance(secrets, list | tuple) or not all(isinstance(s, Secret) for s in secrets):
            raise InvalidError("`secrets` of an App must be a list of Secret objects.")
        self.image = image
        self._secrets = tuple(secrets)
        self._volumes: Mapping[str, Any] = CHECKS["volumes"]("volumes", volumes)

    @property
    def image(self) -> Image | None:
        """The image, if any."""
        return self._image

    @image.setter
    def image(self, image: Any) -> None:
        if image is not None and not isinstance(image, Image):
            raise InvalidError(f"image has to be a modal Image, not {type(image)}.")
        self._image: Image | None = image

    def options(self, given: Mapping[str, Any]) -> FunctionOptions:
        """The options of a decorator's keywords, over the defaults; raises as `validated_options`."""
        # None means "not given" for all but `timeout`, which nothing can be without.
        options = {k: value for k, value in given.items() if value is not None or k == "timeout"}
        options.setdefault("image", self._image)
        own = {name: CHECKS[name](name, given.get(name)) for name in ("secrets", "volumes")}
        options["secrets"] = [*self._secrets, *own["secrets"]]
        options["volumes"] = {**self._volumes, **own["volumes"]}
        return validated_options(**options)
