"""Names of Modal that are declared, renamed or refused: what they do, and with which words."""

from __future__ import annotations

import copy
import importlib
import pickle
import traceback
import warnings
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

import qmodal as modal
from qmodal import exception
from qmodal.client import context
from qmodal.exception import DeprecationError, InvalidError, NotFoundError, UnimplementedError
from qmodal.spec.options import FunctionOptions
from qmodal.spec.variables import (
    ContainerVariables,
    NamedSecret,
    SealedError,
    SealedSecret,
    check_keys,
    named,
    wanted,
)
from qmodal.spec.variant import Variant
from qmodal.wire.signing import Signer

SIGNER = Signer(bytes(32))


def plain(x: int = 1) -> int:
    return x


def function(**options: Any) -> Any:
    return modal.App("demo").function(**options)(plain)


def spec_of(decorated: Any) -> Any:
    app = decorated.app
    (entry,) = app._registry.entries.values()
    return entry.spec(module="demo", signer=SIGNER, app="demo")


@pytest.mark.parametrize(
    ("module", "names"),
    [
        ("app", ["App", "LocalEntrypoint"]),
        ("cls", ["Cls", "Obj"]),
        ("config", ["config", "Config", "config_profiles"]),
        ("exception", ["Error", "FunctionTimeoutError", "simulate_preemption"]),
        ("experimental", ["clustered"]),
        ("functions", ["Function", "FunctionCall"]),
        ("output", ["enable_output"]),
        ("runner", ["run_app", "deploy_app"]),
        ("types", ["FunctionCurrentStats", "FunctionAutoscalerSettings"]),
    ],
)
def test_modules_that_programs_import_have_their_names(module: str, names: list[str]) -> None:
    found = importlib.import_module(f"qmodal.{module}")
    assert getattr(modal, module) is found
    assert [name for name in names if not hasattr(found, name)] == []


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda: modal.Stub, "App"),
        (lambda: modal.build, "enter"),
        (lambda: modal.gpu, "gpu="),
        (lambda: importlib.import_module("qmodal.functions").gather, "FunctionCall.gather"),
        (lambda: modal.Function.lookup, r"Function\.from_name"),
        (lambda: function().keep_warm, "min_containers"),
        (lambda: function().web_url, "get_web_url"),
        (lambda: function().resolve, "hydrate"),
        (lambda: modal.FunctionCall.get_gen, "remote_gen"),
        (lambda: modal.Volume.lookup("a"), "from_name"),
    ],
)
def test_names_that_are_gone_tell_the_new_form(ask: Any, words: str) -> None:
    with pytest.raises(AttributeError, match=words):
        ask()


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("keep_warm", "min_containers"),
        ("concurrency_limit", "max_containers"),
        ("container_idle_timeout", "scaledown_window"),
        ("_experimental_buffer_containers", "buffer_containers"),
        ("allow_concurrent_inputs", "concurrent"),
    ],
)
def test_options_that_were_renamed_tell_the_new_form(option: str, words: str) -> None:
    with pytest.raises(DeprecationError, match=words):
        function(**{option: 3})


def test_old_names_that_work_warn() -> None:
    handle = function()
    with pytest.warns(DeprecationError, match="get_raw_f"):
        assert handle.get_raw_f() is plain
    with pytest.warns(DeprecationError, match=r"autoscaler\.update"):
        assert handle.update_autoscaler is not None
    with pytest.warns(DeprecationError, match="get_web_url"):
        assert handle.get_web_uri is not None
    with pytest.warns(DeprecationError, match="leave it out"):
        handle.map([1], wrap_returned_exceptions=True)._is_used = True
    with pytest.warns(DeprecationError, match="FunctionCurrentStats"):
        assert modal.types.FunctionStats is modal.types.FunctionCurrentStats
    with pytest.warns(DeprecationError, match="fastapi_endpoint"):
        modal.web_endpoint(method="POST")
    with pytest.warns(DeprecationError, match="single_use_containers"):
        function(max_inputs=1)


def test_an_old_name_in_one_place_warns_once() -> None:
    handle = function()
    with warnings.catch_warnings(record=True) as caught:
        warnings.resetwarnings()
        warnings.simplefilter("default")
        for _ in range(3):
            handle.get_raw_f()
    assert len(caught) == 1
    assert caught[0].filename == __file__


def test_images_record_their_steps_and_leave_the_one_before_as_it_was() -> None:
    base = modal.Image.debian_slim(python_version="3.12")
    image = base.apt_install("git").pip_install("numpy", "torch").env({"MODE": "fast"})
    assert [name for name, _, _ in base.steps] == ["debian_slim"]
    assert [name for name, _, _ in image.steps] == [
        "debian_slim",
        "apt_install",
        "pip_install",
        "env",
    ]
    assert pickle.loads(pickle.dumps(image)).steps == image.steps
    assert image.pipe(lambda each: each.workdir("/root")).steps[-1][0] == "workdir"
    with pytest.raises(UnimplementedError, match="builds no images"):
        image.build(modal.App("demo"))


def test_imports_of_an_image_may_fail() -> None:
    image = modal.Image.debian_slim()
    with image.imports():
        importlib.import_module("no_such_module_anywhere.part")
    with pytest.raises(ImportError) as caught:
        image.check_imports()
    assert caught.value.__notes__[0].endswith("install no_such_module_anywhere there.")
    with pytest.raises(ValueError, match="other"), modal.Image.debian_slim().imports():
        raise ValueError("other")


DECLARED: dict[str, tuple[Any, Any]] = {
    "Volume": (lambda: modal.Volume.from_name("v", create_if_missing=True), lambda v: v.commit()),
    "Mount": (lambda: modal.Mount.from_local_dir("."), lambda m: m.entries),
    "NetworkFileSystem": (lambda: modal.NetworkFileSystem.from_name("n"), lambda n: n.listdir("/")),
    "Proxy": (lambda: modal.Proxy.from_name("p"), lambda p: p.ip),
    "CloudBucketMount": (lambda: modal.CloudBucketMount("bucket"), lambda b: b.read_file("a")),
    "Tunnel": (lambda: modal.forward(8000), lambda t: t.__enter__()),
    "Cluster": (lambda: modal.Cluster(), lambda c: c.rank),
}


@pytest.mark.parametrize("kind", DECLARED)
def test_what_qmodal_has_not_can_be_declared_and_not_used(kind: str) -> None:
    declare, use = DECLARED[kind]
    made = declare()
    assert copy.copy(made).to_plain()["kind"] == kind.split(".")[0]
    with pytest.raises(UnimplementedError, match="qmodal has no") as caught:
        use(made)
    assert isinstance(caught.value, NotImplementedError | modal.Error)


def test_stored_objects_are_not_managed() -> None:
    with pytest.raises(UnimplementedError, match="keeps no Volume objects"):
        modal.Volume.objects.list()


def test_old_names_are_silent_in_containers() -> None:
    handle = function()
    with context.importing(for_container=True):
        assert handle.get_raw_f() is plain


def test_a_sandbox_is_refused_when_it_is_made() -> None:
    with pytest.raises(UnimplementedError, match="no Sandbox"):
        modal.Sandbox.create("echo", "hi")


def test_declared_objects_are_recorded_in_what_is_published() -> None:
    handle = function(
        image=modal.Image.debian_slim(),
        volumes={"/data": modal.Volume.from_name("data")},
        network_file_systems={"/nfs": modal.NetworkFileSystem.from_name("nfs")},
        proxy=modal.Proxy.from_name("p"),
        region="us-east",
        cloud="aws",
        schedule=modal.Cron("0 6 * * mon-fri", timezone="Europe/Berlin"),
    )
    options = spec_of(handle).options
    assert options["volumes"]["/data"]["name"] == "data"
    assert options["recorded"]["proxy"]["kind"] == "Proxy"
    assert options["schedule"]["timezone"] == "Europe/Berlin"
    assert FunctionOptions.from_plain(options).region == "us-east"


@pytest.mark.parametrize(
    "schedule",
    [
        modal.Cron("0 6 * *"),
        modal.Cron("60 * * * *"),
        modal.Cron("* * 0 * *"),
        modal.Cron("*/0 * * * *"),
        modal.Cron("0 0 31 2 *"),
        modal.Cron("R * * * *"),
        modal.Cron("x * * * *"),
        modal.Cron("* * * * *", timezone="Mars/Olympus"),
        modal.Period(days=-1),
        modal.Period(),
        modal.Period(seconds=0.5),
    ],
)
def test_a_schedule_that_cannot_be_is_refused_when_it_is_published(schedule: Any) -> None:
    handle = function(schedule=schedule)
    with pytest.raises(InvalidError):
        spec_of(handle)


@pytest.mark.parametrize(
    "line",
    ["* * * * *", "*/5 0-6,12 1 jan-mar mon", "0 0 31 12 7", "0,30 */2 * * *", "0 22-2 * * *"],
)
def test_cron_lines_of_five_fields_are_taken(line: str) -> None:
    modal.Cron(line).check()


def test_schedules_need_functions_without_arguments() -> None:
    def needs(x: int) -> None: ...

    with pytest.raises(InvalidError, match="no arguments"):
        modal.App("demo").function(schedule=modal.Period(days=1), serialized=True)(needs)
    with pytest.raises(TypeError, match="days"):
        modal.Period(days=1.5)  # type: ignore[arg-type]


def test_variables_of_image_secrets_and_env_come_in_this_order(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HERE", "local")
    (tmp_path / ".env").write_text(
        "# first\nexport A='dot # env'\nB = two # more\n\nC=\"x\\ny\"\nEMPTY\nQMODAL_PREFIX=no\n"
    )
    app = modal.App("demo", secrets=[modal.Secret.from_dict({"A": "app", "N": None, "O": "app"})])
    handle: Any = app.function(
        image=modal.Image.debian_slim().env({"I": "image", "O": "image"}),
        secrets=[modal.Secret.from_dotenv(tmp_path), modal.Secret.from_local_environ(["HERE"])],
        env={"B": "env"},
    )(plain)
    options = FunctionOptions.from_plain(spec_of(handle).options)
    assert variables_of(options) == {
        "I": "image",
        "O": "app",
        "A": "dot # env",
        "B": "env",
        "C": "x\ny",
        "EMPTY": "",
        "HERE": "local",
    }


def variables_of(options: FunctionOptions) -> dict[str, str]:
    """What a container of a function with these options gets."""
    found = wanted(options.secrets, "demo", "main")
    sealed = tuple(secret for secret in found if isinstance(secret, SealedSecret))
    made = ContainerVariables(image=options.image_env, secrets=sealed, own=options.environ)
    return made.opened(SIGNER)


def test_values_of_secrets_are_shown_nowhere() -> None:
    secret = modal.Secret.from_dict({"TOKEN": "hidden"})
    published = spec_of(function(secrets=[secret]))
    variant = Variant().with_options(secrets=[secret])
    assert variables_of(FunctionOptions.from_plain(published.options)) == {"TOKEN": "hidden"}
    shown = [repr(secret), secret.to_plain(), published, variant, variant.packed]
    shown += [variant.published(SIGNER, "demo").packed, cloudpickle.dumps(secret)]
    assert [each for each in map(str, shown) if "hidden" in each] == []


def test_a_copy_of_a_secret_has_its_values_and_a_pickle_has_not() -> None:
    secret = modal.Secret.from_dict({"TOKEN": "hidden"})
    assert copy.deepcopy(secret).variables() == copy.copy(secret).variables() == secret.variables()
    assert pickle.loads(pickle.dumps(secret)).variables() == {}
    stored = modal.Secret.from_name("aws", environment_name="prod", required_keys=["A"])
    assert pickle.loads(pickle.dumps(stored)).to_plain() == stored.to_plain()


def test_what_did_not_change_is_published_as_the_same_bytes() -> None:
    def published() -> Any:
        return spec_of(function(secrets=[modal.Secret.from_dict({"B": "1", "A": "2"})]))

    assert published() == published()
    variant = Variant().with_options(secrets=[modal.Secret.from_dict({"A": "1"})])
    again = Variant().with_options(secrets=[modal.Secret.from_dict({"A": "1"})])
    assert variant.published(SIGNER, "demo").packed == again.published(SIGNER, "demo").packed
    assert variant.published(SIGNER, "demo").packed != again.published(SIGNER, "other").packed


def test_the_secrets_of_a_variant_replace_those_of_the_function() -> None:
    image = modal.Image.debian_slim().env({"I": "image"})
    handle = function(image=image, secrets=[modal.Secret.from_dict({"A": "1", "B": "1"})])
    variant = (
        Variant().with_options(secrets=[modal.Secret.from_dict({"A": "2"})]).with_batching(2, 9)
    )
    options = variant.published(SIGNER, "demo").over(spec_of(handle).options)
    assert variables_of(options) == {"A": "2", "I": "image"}
    assert options.max_batch_size == 2


def test_secrets_that_make_no_sense_are_refused() -> None:
    odd: Any = {"A": 3}
    with pytest.raises(InvalidError, match="strings"):
        modal.Secret.from_dict(odd)
    with pytest.raises(InvalidError, match="NOT_THERE_AT_ALL"):
        modal.Secret.from_local_environ(["NOT_THERE_AT_ALL"])
    with pytest.raises(InvalidError, match="from_"):
        modal.Secret()
    with pytest.raises(InvalidError, match="not stored by name"):
        modal.Secret.from_dict({"A": "1"}).update({})
    for bad in ({"A-B": "1"}, {"1A": "1"}, {"A": "x" * 32_769}, {"A": "\0"}):
        with pytest.raises(InvalidError) as refused:
            modal.Secret.objects.create("a", bad)
        assert "xx" not in str(refused.value)


def test_a_container_does_not_look_for_the_callers_variables() -> None:
    with context.importing(for_container=True):
        assert modal.Secret.from_local_environ(["NOT_THERE_AT_ALL"]).variables() == {}


def test_a_named_secret_says_which_variables_are_missing() -> None:
    secret = modal.Secret.from_name("aws", required_keys=["A", "B"])
    (asked,) = named([secret.to_plain()], "main")
    assert asked == NamedSecret("main", "aws", ("A", "B"))
    check_keys(asked, ["B", "A", "C"])
    with pytest.raises(SealedError, match="deploy it again"):
        named([{"kind": "from_dict", "name": None}], "main")
    for found, words in ((None, "no secret 'aws' .* create aws A=... B=..."), (["A"], "lacks B")):
        with pytest.raises(NotFoundError, match=words):
            check_keys(asked, found)


def test_dotenv_files_are_read_by_python_dotenv(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text('A=1\nB=\'two\nlines\'\nC=${A}3\nD="say \\"x\\""\n')
    found = modal.Secret.from_dotenv(tmp_path).variables()
    assert found == {"A": "1", "B": "two\nlines", "C": "13", "D": 'say "x"'}
    (tmp_path / ".env").write_bytes(b"A=hidden\xff")
    with pytest.raises(InvalidError, match="cannot be read") as refused:
        modal.Secret.from_dotenv(tmp_path).variables()
    assert "hidden" not in "".join(traceback.format_exception(refused.value))


def test_a_cluster_has_members() -> None:
    with pytest.raises(InvalidError):
        modal.clustered(size=0)


def test_old_hooks_of_a_class_are_hooks_with_a_warning() -> None:
    class Older:
        def __enter__(self) -> None:
            self.entered = True

        def __exit__(self, *failure: object) -> None:
            self.left = failure

        @modal.method()
        def show(self) -> bool:
            return self.entered

    with pytest.warns(DeprecationError, match="__enter__") as caught:
        decorated: Any = modal.App("demo").cls()(Older)
    assert caught[0].filename == __file__
    assert decorated().show.local() is True


def test_interact_and_preemption_belong_in_containers() -> None:
    with pytest.raises(InvalidError, match="only works inside"):
        modal.interact()
    with pytest.raises(InvalidError, match="only in a container"):
        exception.simulate_preemption(1)
    with pytest.raises(ValueError, match="greater than 0"):
        exception.simulate_preemption(0)


def test_settings_have_modals_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QMODAL_ENVIRONMENT", "staging")
    assert modal.config.config["environment"] == "staging"
    assert "server_url" in modal.config.config.to_dict()
    with pytest.raises(InvalidError, match="no setting"):
        modal.config.config.get("token_id")
    with pytest.raises(UnimplementedError, match="no profiles"):
        modal.config.config_set_active_profile("a")
