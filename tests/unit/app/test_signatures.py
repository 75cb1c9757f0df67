"""What is offered under Modal's names has Modal's parameters; each difference has its reason here.

`tests/data/modal_signatures.json` holds names, kinds and defaults of Modal 1.6.4, nothing else.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import qmodal
from qmodal import config, exception, types
from qmodal.app import app
from qmodal.client.verb import Verb, VerbMethod
from qmodal.cls import cls
from qmodal.functions.call import Gather
from qmodal.output import logs as log_verbs
from qmodal.resources.ephemeral import Twin
from qmodal.runner import run as runner
from qmodal.spec.keywords.typed import OptionKeywords, VariantOptions
from qmodal.spec.options import FunctionOptions

FACTS = json.loads((Path(__file__).parents[2] / "data" / "modal_signatures.json").read_text())
CLASSES: dict[str, type] = {
    "App": qmodal.App,
    "LocalEntrypoint": app.LocalEntrypoint,
    "Function": qmodal.Function,
    "FunctionCall": qmodal.FunctionCall,
    "Cls": qmodal.Cls,
    "Obj": cls.Obj,
    "Secret": qmodal.Secret,
    "Volume": qmodal.Volume,
    "Dict": qmodal.Dict,
    "Queue": qmodal.Queue,
    "Retries": qmodal.Retries,
    "Cron": qmodal.Cron,
    "Period": qmodal.Period,
    "Config": config.Config,
    "Logs": log_verbs.LogVerbs,
}
FUNCTIONS: dict[str, Callable[..., Any]] = {
    "runner.run_app": runner.run_app,
    "runner.deploy_app": runner.deploy_app,
    "config.config_profiles": config.config_profiles,
    "config.config_set_active_profile": config.config_set_active_profile,
    "exception.simulate_preemption": exception.simulate_preemption,
}
BARE = "`*bare` is there to say what to do when the parentheses were forgotten"
SOFTNESS = "qmodal's own: how much longer inputs may wait so that fewer containers start"
WINDOW = "qmodal's own: for how long more containers have to be needed before a pool grows"
RESUME = "qmodal's own: the key of a map that another process may go on with"
FRESH = "a default that is made anew for each call, not one that all calls share"
# What differs, and why. A name alone: the whole parameter list; `name(parameter)`: that parameter.
DIFFERENCES = {
    "App.__init__(secrets)": FRESH + "; an empty tuple here",
    "App.__init__(volumes)": FRESH,
    "App.function(bare)": BARE,
    "App.cls(bare)": BARE,
    "App.local_entrypoint(bare)": BARE,
    "App.function(fork)": "qmodal's own: an interpreter for each container instead of a fork",
    "App.cls(fork)": "qmodal's own: an interpreter for each container instead of a fork",
    "App.function(on_crash_loop)": "qmodal's own: whether waiting inputs fail if nothing can start",
    "App.cls(on_crash_loop)": "qmodal's own: whether waiting inputs fail if nothing can start",
    "App.function(delivery)": "qmodal's own: whether an input may run twice",
    "App.cls(delivery)": "qmodal's own: whether an input may run twice",
    "App.function(scaleup_softness)": SOFTNESS,
    "App.cls(scaleup_softness)": SOFTNESS,
    "Function.update_autoscaler(scaleup_softness)": SOFTNESS,
    "Obj.update_autoscaler(scaleup_softness)": SOFTNESS,
    "App.function(scaleup_window)": WINDOW,
    "App.cls(scaleup_window)": WINDOW,
    "Function.update_autoscaler(scaleup_window)": WINDOW,
    "Obj.update_autoscaler(scaleup_window)": WINDOW,
    "App.function(priority)": "qmodal's own: its share of the room",
    "App.cls(priority)": "qmodal's own: its share of the room",
    "runner.deploy_app(staged)": "a rollout in steps belongs to Modal's own service",
    "App.deploy(name)": "by position too, as `qmodal.runner.deploy_app` takes it",
    "LocalEntrypoint.__init__": "made by `@app.local_entrypoint`, never by programs",
    "Function.map(kwargs)": FRESH,
    "Function.starmap(kwargs)": FRESH,
    "Function.for_each(kwargs)": FRESH,
    "Function.spawn_map(kwargs)": FRESH,
    "Function.map(resume)": RESUME,
    "Function.starmap(resume)": RESUME,
    "Function.spawn_map(resume)": RESUME,
    "enable_output(show_timestamps)": "qmodal's own: what `qmodal run --timestamps` shows",
    "enable_output(show_progress)": "qmodal's own: what `qmodal run --quiet` leaves out",
    "method(bare)": BARE,
    "enter(bare)": BARE,
    "exit(bare)": BARE,
    "batched(bare)": BARE,
    "concurrent(bare)": BARE,
    "fastapi_endpoint(bare)": BARE,
    "asgi_app(bare)": BARE,
    "wsgi_app(bare)": BARE,
    "web_endpoint": "Modal refuses the name; here it works as it last did, with a warning",
    "clustered(size)": "by position too, as older programs write it",
    "parameter(default)": "both mean that there is no default",
}
OWN_FIELDS = {"FunctionAutoscalerSettings": {"scaleup_softness", "scaleup_window"}}
# Members of Modal's classes that qmodal has not, and why; those of a later part of qmodal say so.
LATER = "a later part of qmodal"
HOSTED = "about Modal's own service"
ABSENT = {
    "App": {
        "info": LATER,
        "stats": LATER,
        "server": HOSTED,
        "sandboxes": HOSTED,
        "get_dashboard_url": HOSTED,
    },
    "LocalEntrypoint": {"info": HOSTED, "app": "an attribute of each instance"},
    "Function": {
        "metrics": LATER,
        "stats": LATER,
        "experimental_spawn_map": "`spawn_map` itself returns the FunctionCall",
        "from_id": "pools have ids of their own; use `from_name`",
    },
    "FunctionCall": {"logs": "what a container prints is kept by pool, not by input"},
}
# These raise UnimplementedError for all that is not listed here, so nothing else is offered.
ONLY_DECLARED = {"Volume"}


def plain(default: object) -> str | None:
    """A default as the facts spell it; None if there is none."""
    return None if default is inspect.Parameter.empty else repr(default)


def ours(found: Any, *, is_method: bool) -> dict[str, tuple[str, str | None]]:
    """Kind and default of each parameter."""
    parameters = list(inspect.signature(found).parameters.values())
    if is_method and parameters and parameters[0].name in ("self", "cls"):
        parameters = parameters[1:]
    listed: dict[str, tuple[str, str | None]] = {}
    for each in parameters:
        if each.name == "options" and each.kind is inspect.Parameter.VAR_KEYWORD:
            listed |= keywords(each.annotation)
        else:
            listed[each.name] = (each.kind.name.lower(), plain(each.default))
    return listed


def keywords(annotation: str) -> dict[str, tuple[str, str | None]]:
    """The options of decorators and variants, which `qmodal.spec.options` checks; None is taken for each."""
    kind = VariantOptions if "VariantOptions" in annotation else OptionKeywords
    renamed = {
        "keep_warm",
        "concurrency_limit",
        "container_idle_timeout",
        "allow_concurrent_inputs",
    }
    return dict.fromkeys(kind.__annotations__.keys() - renamed, ("keyword_only", "<any>"))


def offered(owner: type, member: str) -> Any:
    """The member as something that has a signature; None for a property without a call."""
    if member == "__init__":
        return owner.__init__  # type: ignore[misc]
    raw = inspect.getattr_static(owner, member)
    if isinstance(raw, staticmethod | classmethod):
        return raw.__func__
    if isinstance(raw, VerbMethod | Verb | Twin):
        return raw.__wrapped__
    if isinstance(raw, Gather):
        return type(raw).__call__
    return raw if inspect.isfunction(raw) else None


def differences(name: str, found: Any, facts: Any, *, is_method: bool) -> Iterator[tuple[str, str]]:
    """Where the parameters differ, and how."""
    theirs = {each: (kind, default) for each, kind, default in facts["parameters"]}
    mine = ours(found, is_method=is_method)
    for parameter in [*theirs, *(mine.keys() - theirs.keys())]:
        if mine.get(parameter) == theirs.get(parameter):
            continue
        if "<any>" in mine.get(parameter, ()) and parameter in theirs:
            continue  # `test_the_options_have_modals_defaults` compares these
        text = f"{mine.get(parameter)} here, {theirs.get(parameter)} there"
        yield f"{name}({parameter})", text


def unexplained(found: Iterator[tuple[str, str]]) -> list[tuple[str, str]]:
    return [
        (where, text)
        for where, text in found
        if where not in DIFFERENCES and where.split("(")[0] not in DIFFERENCES
    ]


def of_class(name: str) -> Iterator[tuple[str, str]]:
    owner = CLASSES[name]
    for member, facts in FACTS["classes"][name].items():
        if member in ABSENT.get(name, {}):
            continue
        if inspect.getattr_static(owner, member, None) is None:
            assert name in ONLY_DECLARED, f"{name}.{member} is missing"
            continue
        callable_ = offered(owner, member)
        if callable_ is not None and facts["kind"] != "property":
            yield from differences(f"{name}.{member}", callable_, facts, is_method=True)


def of_function(name: str) -> Iterator[tuple[str, str]]:
    found = FUNCTIONS.get(name) or getattr(qmodal, name)
    yield from differences(name, found, FACTS["functions"][name], is_method=False)


@pytest.mark.parametrize("name", CLASSES)
def test_classes_have_modals_members_and_parameters(name: str) -> None:
    assert unexplained(of_class(name)) == []


@pytest.mark.parametrize("name", FACTS["functions"])
def test_functions_have_modals_parameters(name: str) -> None:
    assert unexplained(of_function(name)) == []


@pytest.mark.parametrize("decorator", ["function", "cls"])
def test_the_options_have_modals_defaults(decorator: str) -> None:
    default = FunctionOptions()
    here = {
        # None stands for these, so that what was not given can be told from what was.
        "min_containers": None,
        "buffer_containers": None,
        "scaledown_window": None,
        "secrets": None,
        "env": None,
    }
    odd = {}
    for name, _, theirs in FACTS["classes"]["App"][decorator]["parameters"]:
        value = here[name] if name in here else getattr(default, name, None)
        if hasattr(default, name) and name != "max_inputs" and repr(value) != theirs:
            odd[name] = (repr(value), theirs)
    assert odd == {}


def test_each_public_name_of_modal_is_offered_or_refused_with_a_word() -> None:
    for name in FACTS["all"]:
        if name in qmodal.__all__:
            continue
        with pytest.raises(AttributeError, match=rf"no attribute '{name}': \w+"):
            getattr(qmodal, name)


def test_exceptions_have_modals_bases() -> None:
    for name, bases in FACTS["exceptions"].items():
        mine = getattr(exception, name)
        assert set(bases) <= {each.__name__ for each in mine.__mro__}, name


def test_images_have_all_names_of_modals() -> None:
    assert [name for name in FACTS["image"] if name not in vars(qmodal.Image)] == []


def test_records_have_modals_fields() -> None:
    records = ("FunctionCurrentStats", "FunctionAutoscalerSettings", "FunctionInfo", "InputInfo")
    for name in (*records, "LogEntry", "DictInfo", "QueueInfo"):
        own = OWN_FIELDS.get(name, set())
        assert set(getattr(types, name).__dataclass_fields__) - own == set(FACTS["records"][name])


def test_every_difference_that_is_listed_exists() -> None:
    found = {where for name in CLASSES for where, _ in of_class(name)}
    found |= {where for name in FACTS["functions"] for where, _ in of_function(name)}
    assert {each for each in DIFFERENCES if "(" in each} <= found
    assert {each for each in DIFFERENCES if "(" not in each} <= {w.split("(")[0] for w in found}
    for name, members in ABSENT.items():
        there = [each for each in members if inspect.getattr_static(CLASSES[name], each, None)]
        assert there == [], f"{name} has it: take it out of the list"
