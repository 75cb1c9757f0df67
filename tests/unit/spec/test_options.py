"""What decorators accept, what they refuse, and what they mean."""

from __future__ import annotations

from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

import pytest

from qmodal.exception import DeprecationError, InvalidError
from qmodal.resources.image import Image
from qmodal.resources.secret import Secret
from qmodal.resources.unsupported import CloudBucketMount, Volume
from qmodal.spec.documents import FunctionSpec, PoolSpec
from qmodal.spec.options import (
    AutoscalerOverride,
    FunctionOptions,
    plain_overrides,
    validated_options,
)
from qmodal.spec.retries import Retries
from qmodal.spec.variant import Variant, options_in_force
from qmodal.wire.plain import pack, unpack

NAN = float("nan")


VOLUME = Volume.from_name("data")
BUCKET = CloudBucketMount("bucket")
SECRET = Secret.from_dict({"A": "1"})


def test_without_options_a_function_has_the_defaults() -> None:
    options = validated_options()
    assert options == FunctionOptions()
    assert (options.min_containers, options.max_containers, options.buffer_containers) == (
        0,
        None,
        0,
    )
    assert (options.scaledown_window, options.timeout, options.retries) == (60, 300, None)
    assert (options.fork, options.delivery, options.max_inputs) == (True, "at_least_once", 1)
    assert validated_options(gpu=None, min_containers=None, env=None, volumes={}) == options
    assert options.to_plain() == {}


@pytest.mark.parametrize(
    ("given", "field", "value"),
    [
        ({"min_containers": 2, "max_containers": 2}, "min_containers", 2),
        ({"scaledown_window": 2}, "scaledown_window", 2),
        ({"scaledown_window": 3600}, "scaledown_window", 3600),
        ({"timeout": 1}, "timeout", 1),
        ({"timeout": 86400}, "timeout", 86400),
        ({"retries": 0}, "retries", Retries(max_retries=0, backoff_coefficient=1.0)),
        ({"retries": 3}, "retries", Retries(max_retries=3, backoff_coefficient=1.0)),
        ({"gpu": "A100-80GB:8"}, "gpu", "A100-80GB:8"),
        ({"gpu": ["H100!", "any"]}, "gpu", ("H100!", "any")),
        ({"cpu": 0.125}, "cpu", 0.125),
        ({"cpu": (1, 2.5)}, "cpu", (1, 2.5)),
        ({"memory": 512}, "memory", 512),
        ({"memory": (512, 1024)}, "memory", (512, 1024)),
        ({"env": {"A": "1", "B": None}}, "env", {"A": "1"}),
        ({"volumes": {PurePosixPath("/a/b/"): VOLUME}}, "volumes", {"/a/b": VOLUME}),
        ({"volumes": {"/b": BUCKET}}, "volumes", {"/b": BUCKET}),
        ({"secrets": [SECRET]}, "secrets", (SECRET,)),
        ({"region": ["eu", "us"]}, "region", ("eu", "us")),
        ({"i6pn": True, "proxy": None}, "recorded", {"i6pn": True}),
    ],
)
def test_a_good_value_is_kept(given: dict[str, Any], field: str, value: Any) -> None:
    assert getattr(validated_options(**given), field) == value


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"min_containers": 1.5}, "^`min_containers` must be an int, not float$"),
        ({"min_containers": True}, "must be an int, not bool"),
        ({"min_containers": NAN}, "must be an int, not float"),
        ({"min_containers": -1}, "`min_containers` must be at least 0"),
        ({"max_containers": 0}, "`max_containers` must be at least 1"),
        ({"buffer_containers": -1}, "`buffer_containers`"),
        (
            {"min_containers": 3, "max_containers": 2},
            r"^`min_containers` \(3\) cannot be greater than `max_containers` \(2\)$",
        ),
        ({"scaleup_softness": 1.01}, "^`scaleup_softness` must be a number from 0 to 1, not 1.01$"),
        ({"scaleup_softness": -0.1}, "from 0 to 1"),
        ({"scaleup_softness": NAN}, "from 0 to 1"),
        ({"scaleup_softness": True}, "from 0 to 1, not True"),
        ({"scaleup_softness": "0"}, "from 0 to 1"),
        ({"scaleup_window": 301}, "^`scaleup_window`"),
        ({"scaleup_window": -1}, "`scaleup_window`"),
        ({"scaleup_window": 1.5}, "`scaleup_window`"),
        ({"scaledown_window": 1}, r"^`scaledown_window` must be between 2 and 3600 \(inclusive\)$"),
        ({"scaledown_window": 3601}, r"between 2 and 3600 \(inclusive\)$"),
        ({"scaledown_window": 60.0}, "must be an int, not float"),
        ({"timeout": None}, "`timeout` cannot be None"),
        ({"timeout": 0}, "`timeout` must be between 1 and 86400"),
        ({"timeout": -1}, "`timeout`"),
        ({"timeout": 86401}, "`timeout`"),
        ({"timeout": 1.5}, "`timeout` must be an int, not float"),
        ({"timeout": True}, "`timeout`"),
        ({"startup_timeout": 0}, "`startup_timeout`"),
        ({"retries": -1}, "`max_retries`"),
        (
            {"retries": "3"},
            r"^Retries parameter must be an integer or instance of modal.Retries\.",
        ),
        ({"retries": True}, "^Retries parameter must be"),
        ({"retries": 1.0}, "^Retries parameter must be"),
        ({"gpu": 1}, "`gpu`"),
        ({"gpu": "A100:0"}, "`gpu`"),
        ({"gpu": ["A100", ""]}, "`gpu`"),
        ({"image": 17}, r"^Expected modal.Image object. Got <class 'int'>\.$"),
        ({"image": Image}, "^Expected modal.Image object"),
        ({"gpu": "A 100"}, "`gpu`"),
        ({"cpu": 0}, "`cpu`"),
        ({"cpu": NAN}, "`cpu`"),
        ({"cpu": True}, "`cpu`"),
        ({"cpu": (2, 1)}, "`cpu`.*above its limit"),
        ({"cpu": ()}, "`cpu`"),
        ({"memory": 1.5}, "`memory`"),
        ({"memory": (1, 2, 3)}, "`memory`"),
        ({"ephemeral_disk": 0}, "`ephemeral_disk`"),
        ({"env": ["A"]}, "`env`"),
        ({"env": {"A": 1}}, "`env`.*'A'"),
        ({"env": {"A=B": "1"}}, "`env`"),
        ({"secrets": VOLUME}, "`secrets` must be a list"),
        ({"secrets": {"A": "1"}}, "`secrets` must be a list"),
        ({"secrets": ["name"]}, "`secrets` must be a list"),
        ({"volumes": {"relative": VOLUME}}, "`volumes`.*absolute"),
        ({"volumes": {"/a": VOLUME, "/b": VOLUME}}, "same volume"),
        ({"volumes": [VOLUME]}, "`volumes`"),
        ({"volumes": {"/a": 17}}, "`volumes`: /a must have a modal.Volume"),
        ({"volumes": {"/a": "data"}}, "`volumes`: /a must have a modal.Volume"),
        ({"region": ""}, "`region`"),
        ({"region": [1]}, "`region`"),
        ({"cloud": 1}, "`cloud`"),
        ({"fork": 1}, "`fork`"),
        ({"enable_memory_snapshot": "yes"}, "`enable_memory_snapshot`"),
        ({"delivery": "exactly_once"}, "`delivery`"),
        ({"delivery": []}, "`delivery`"),
        ({"on_crash_loop": "wait"}, '^`on_crash_loop` must be "fail" or "hold", not \'wait\'$'),
        ({"max_inputs": 2}, "`max_inputs` may only be 1"),
    ],
)
def test_a_bad_value_is_refused(given: dict[str, Any], text: str) -> None:
    with pytest.raises(InvalidError, match=text):
        validated_options(**given)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("keep_warm", "min_containers"),
        ("concurrency_limit", "max_containers"),
        ("container_idle_timeout", "scaledown_window"),
        ("allow_concurrent_inputs", "modal.concurrent"),
    ],
)
def test_an_old_name_is_refused_with_the_new_one(old: str, new: str) -> None:
    with pytest.raises(DeprecationError, match=new):
        validated_options(**{old: 3})


def test_max_inputs_of_one_warns_and_means_single_use() -> None:
    with pytest.warns(DeprecationError, match="single_use_containers"):
        assert validated_options(max_inputs=1).single_use_containers


def test_an_unknown_keyword_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'gpus'"):
        validated_options(gpus="A100")
    with pytest.raises(TypeError, match="unexpected keyword argument 'min_containers'"):
        plain_overrides(min_containers=1)


@pytest.mark.parametrize("nothing", [None, False, "", []])
def test_an_empty_gpu_is_none(nothing: Any) -> None:
    assert validated_options(gpu=nothing) == FunctionOptions()


def test_experimental_options_are_accepted_and_change_nothing() -> None:
    options = validated_options(_experimental_restrict_output=True, _experimental_new=object())
    assert options == FunctionOptions()
    with pytest.raises(DeprecationError, match="buffer_containers"):
        validated_options(_experimental_buffer_containers=1)


def test_overrides_replace_what_they_name_and_none_unsets_nothing() -> None:
    options = validated_options(retries=3, cpu=2, memory=512, volumes={"/a": VOLUME}, i6pn=True)
    own = options.to_plain()
    variant = Variant().with_options(retries=0, cpu=None, memory=1024, volumes={})
    changed = variant.over(own)
    assert changed.retries == Retries(max_retries=0, backoff_coefficient=1.0)
    assert (changed.cpu, changed.memory, changed.volumes) == (2, 1024, own["volumes"])
    assert (changed.recorded, own["memory"]) == ({"i6pn": True}, 512)


def test_an_override_without_an_effect_is_recorded_as_a_decorator_records_it() -> None:
    own = validated_options(i6pn=True, routing_region="us")
    there = Variant().with_options(timeout=60, routing_region="ap")
    variant = there.with_options(cpu=2, routing_region="eu")
    assert variant.over(own.to_plain()) == validated_options(
        timeout=60, cpu=2, i6pn=True, routing_region="eu"
    )
    assert there.with_options(cpu=2).over({}).recorded == {"routing_region": "ap"}
    assert variant.packed != Variant().with_options(timeout=60, cpu=2).packed


def test_overrides_alone_lie_over_a_functions_plain_options() -> None:
    options = validated_options(timeout=600, retries=2, cpu=2)
    variant = unpack(pack(plain_overrides(timeout=300, retries=0, gpu=None, memory=(1, 2))))
    merged = FunctionOptions.from_plain({**options.to_plain(), **variant})
    assert merged == validated_options(timeout=300, retries=0, cpu=2, memory=(1, 2))
    assert plain_overrides(timeout=1, cpu=2) == plain_overrides(cpu=2, timeout=1)


def test_the_options_in_force_are_a_functions_own_under_those_of_its_pool() -> None:
    own = FunctionSpec(
        tag="f",
        module="m",
        qualname="f",
        is_class=False,
        methods={},
        options=validated_options(timeout=600, region=["a", "b"]).to_plain(),
    )
    pool = PoolSpec(app_id="ap-1", function="f")
    assert options_in_force(own, pool) == validated_options(timeout=600, region=["a", "b"])
    changed = replace(pool, variant=Variant().with_options(timeout=5, region=["c"]).packed)
    assert options_in_force(own, changed) == validated_options(timeout=5, region=["c"])


def test_options_travel_as_plain_values() -> None:
    options = validated_options(
        retries=Retries(max_retries=2, initial_delay=0.5),
        gpu=["A100", "any"],
        cpu=(0.5, 2),
        region="eu",
        secrets=[SECRET],
        volumes={"/a": VOLUME},
        image=Image.debian_slim(),
        experimental_options={"a": object},
        min_containers=1,
    ).with_concurrency(10, 5)
    plain = unpack(pack(options.to_plain()))
    assert plain["volumes"]["/a"]["name"] == "data"
    assert plain["image"] == {"kind": "Image", "steps": [["debian_slim", []]]}
    assert "timeout" not in plain
    back = FunctionOptions.from_plain({**plain, "from_a_newer_version": 1})
    assert (back.retries, back.gpu, back.cpu) == (options.retries, ("A100", "any"), (0.5, 2))
    assert (back.max_inputs, back.target_inputs, back.min_containers) == (10, 5, 1)
    assert back.to_plain() == plain


@pytest.mark.parametrize(
    ("maximum", "target", "text"),
    [
        (0, None, "max_inputs"),
        (1001, None, "max_inputs"),
        (1.5, None, "must be an int"),
        (2, 3, "^`target_inputs` parameter cannot be greater than `max_inputs`.$"),
        (2, 0, "target_inputs"),
        (2, 1.0, "`target_inputs` must be an int"),
    ],
)
def test_concurrency_has_limits(maximum: Any, target: Any, text: str) -> None:
    with pytest.raises(InvalidError, match=text):
        FunctionOptions().with_concurrency(maximum, target)


@pytest.mark.parametrize(("size", "wait"), [(0, 1), (1001, 1), (1, -1), (1, 600_001), (True, 1)])
def test_batching_has_limits(size: Any, wait: Any) -> None:
    with pytest.raises(InvalidError):
        FunctionOptions().with_batching(size, wait)
    assert FunctionOptions().with_batching(1000, 600_000).max_batch_size == 1000


def test_generators_and_web_functions_have_no_retries() -> None:
    options = validated_options(retries=1)
    options.check_kind()
    with pytest.raises(InvalidError, match=r"^Generator Functions do not support retries\.$"):
        options.check_kind(is_generator=True)
    with pytest.raises(InvalidError, match="do not support retries"):
        options.check_kind(is_web=True)


def test_an_autoscaler_override_changes_only_what_it_names() -> None:
    options = validated_options(max_containers=5)
    override = AutoscalerOverride(min_containers=2, scaledown_window=10)
    applied = override.apply(options)
    assert (applied.min_containers, applied.max_containers, applied.scaledown_window) == (2, 5, 10)
    assert AutoscalerOverride.from_plain(override.to_plain()) == override
    assert AutoscalerOverride().apply(options) == options
    with pytest.raises(InvalidError, match=r"`min_containers` \(6\)"):
        AutoscalerOverride(min_containers=6).apply(options)


@pytest.mark.parametrize(
    "given",
    [
        {"min_containers": 3, "max_containers": 2},
        {"min_containers": -1},
        {"max_containers": 1.0},
        {"scaledown_window": 1},
        {"buffer_containers": True},
    ],
)
def test_a_bad_override_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(InvalidError):
        AutoscalerOverride(**given)


@pytest.mark.parametrize(
    "given",
    [
        {"max_retries": -1},
        {"max_retries": 1.0},
        {"max_retries": True},
        {"max_delay": 0.5},
        {"max_delay": 61},
        {"initial_delay": -1},
        {"initial_delay": 61},
        {"initial_delay": NAN},
        {"backoff_coefficient": 0.5},
        {"backoff_coefficient": 10.5},
        {"backoff_coefficient": "2"},
    ],
)
def test_retries_out_of_range_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(InvalidError):
        Retries(**{"max_retries": 1, **given})


@pytest.mark.parametrize(
    ("retries", "delays"),
    [
        (Retries(max_retries=9), [1, 2, 4, 8, 16, 32, 60, 60]),
        (Retries(max_retries=9, backoff_coefficient=1.0, initial_delay=5), [5, 5, 5]),
        (Retries(max_retries=9, initial_delay=0), [1, 1, 1]),
        (Retries(max_retries=9, initial_delay=60, max_delay=1), [1, 1]),
        (Retries(max_retries=9, initial_delay=0.3), [1, 1, 1.2]),
        (Retries.of(3), [1, 1, 1]),
    ],
)
def test_delays_grow_between_one_second_and_the_limit(
    retries: Retries, delays: list[float]
) -> None:
    assert [retries.delay(n + 1) for n in range(len(delays))] == pytest.approx(delays)


def test_a_delay_after_very_many_retries_is_the_limit() -> None:
    assert Retries(max_retries=10**6, backoff_coefficient=10).delay(10**5) == 60
    assert Retries(max_retries=10**6, backoff_coefficient=10, initial_delay=0).delay(10**5) == 1


def test_a_delivery_is_one_of_two() -> None:
    assert not validated_options(delivery="at_least_once").is_once
    assert validated_options(delivery="at_most_once").is_once
    with pytest.raises(InvalidError, match='"at_least_once" or "at_most_once"'):
        validated_options(delivery="exactly_once")
