"""The life of apps as their owner sees it: deploys, versions, rollback, detached runs, serving."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

import qmodal
from qmodal.client import client as clients
from qmodal.client.client import Client
from qmodal.config import Settings
from qmodal.exception import NotFoundError
from tests.support.commands import PROGRAM as QMODAL, environ, qmodal as command, started
from tests.support.waiting import wait_until

SOURCE = """
import os
import time
import qmodal

app = qmodal.App("shop", tags={"team": "a"})

@app.function()
def number() -> int:
    return 1

@app.function()
def ask_number() -> int:
    return number.remote()

@app.function(timeout=60)
def sleepy(marker: str, alarm: str) -> int:
    with open(marker, "a") as file:
        file.write("begun\\n")
    while not os.path.exists(alarm):
        time.sleep(0.01)
    time.sleep(1)
    with open(marker, "a") as file:
        file.write("done\\n")
    return number.local()

@app.cls()
class Counter:
    @qmodal.enter()
    def begin(self) -> None:
        self.pid = os.getpid()

    @qmodal.exit()
    def end(self) -> None:
        print("counter leaves", flush=True)

    @qmodal.method()
    def where(self) -> int:
        return self.pid

    @qmodal.method()
    def number(self) -> int:
        return 1
"""


def source(number: int) -> str:
    return SOURCE.replace("return 1", f"return {number}")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "shop.py").write_text(SOURCE)
    return tmp_path / "shop.py"


@pytest.fixture
def box(settings: Settings, tmp_path: Path, client: Client) -> Iterator[None]:
    """An autoscaler and a worker on the session's server, and this process as a caller."""
    before = clients.use(client)
    try:
        with ExitStack() as stack:
            children = [
                stack.enter_context(started(name, settings=settings, cwd=tmp_path))
                for name in ("autoscaler", "worker")
            ]
            yield
            try:
                _stop_all(client)
            finally:
                for child in children:
                    child.send_signal(signal.SIGTERM)
                for child in children:
                    print(*child.communicate(timeout=20))  # for whoever has to find out why
    finally:
        clients.use(before)


def _stop_all(client: Client) -> None:
    for app_id in client.run(client.apps.deployed()).values():
        record = client.run(client.apps.record(app_id))
        assert record is not None
        client.run(client.apps.stop(record))
    wait_until(lambda: not client.run(client.observing.active()), what="all pools are gone")


def say(*argv: str | Path, settings: Settings, cwd: Path) -> str:
    done = command(*argv, settings=settings, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done.stdout


def function(name: str = "number", **options: Any) -> Any:
    return qmodal.Function.from_name("shop", name, **options)


@pytest.mark.usefixtures("box")
def test_versions_are_published_pinned_listed_and_rolled_back(
    file: Path, settings: Settings
) -> None:
    def deploy(*more: str) -> str:
        return say("deploy", file, *more, settings=settings, cwd=file.parent)

    assert "Deployed shop version 1" in deploy("--tag", "first")
    assert "Nothing has changed since shop version 1" in deploy("--tag", "first")
    file.write_text(source(2))
    assert "Deployed shop version 2" in deploy()
    assert function().remote() == 2
    assert function(version=1).remote() == 1
    assert function("ask_number", version=1).remote() == 1
    assert qmodal.Cls.from_name("shop", "Counter", version=1)().number.remote() == 1
    assert qmodal.Cls.from_name("shop", "Counter")().number.remote() == 2
    with pytest.raises(NotFoundError, match="no version 9"):
        function(version=9).remote()
    rolled = say("app", "rollback", "shop", settings=settings, cwd=file.parent)
    assert rolled == "Version 3 of shop is version 1 again\n"
    wait_until(lambda: function().remote() == 1, what="the old code runs")
    assert function(version=2).remote() == 2
    listed = say("app", "history", "shop", "--json", settings=settings, cwd=file.parent)
    rows = json.loads(listed)
    assert [(row["version"], row["tag"]) for row in rows] == [(3, "first"), (2, ""), (1, "first")]
    assert [row["version"] for row in rows if row["current"]] == [3]
    refused = command("app", "rollback", "shop", "0", settings=settings, cwd=file.parent)
    assert (refused.returncode, "no version 0" in refused.stderr) == (1, True)


def test_an_app_without_functions_replaces_others_with_a_flag_only(
    file: Path, settings: Settings
) -> None:
    empty = file.with_name("empty.py")
    empty.write_text("import qmodal\n\napp = qmodal.App('shop')\n")
    say("deploy", empty, settings=settings, cwd=file.parent)
    say("deploy", file, settings=settings, cwd=file.parent)
    refused = command("deploy", empty, settings=settings, cwd=file.parent)
    assert refused.returncode == 1
    assert "this app has no functions" in refused.stderr
    assert "--allow-empty" in refused.stderr
    done = say("deploy", "--allow-empty", empty, settings=settings, cwd=file.parent)
    assert done.startswith("Deployed shop version 3")
    say("app", "stop", "-y", "shop", settings=settings, cwd=file.parent)


def test_a_rollback_to_what_is_not_there_is_refused(file: Path, settings: Settings) -> None:
    say("deploy", file, settings=settings, cwd=file.parent)
    for version in ("1", "7", ""):
        argv = ["app", "rollback", "shop", *filter(None, [version])]
        done = command(*argv, settings=settings, cwd=file.parent)
        assert done.returncode == 1
        assert "version" in done.stderr
    say("app", "stop", "-y", "shop", settings=settings, cwd=file.parent)


@pytest.mark.usefixtures("box")
def test_recreate_ends_older_containers_at_once_and_their_inputs_run_on_the_new_ones(
    file: Path, settings: Settings
) -> None:
    marker = file.parent / "marker"
    say("deploy", file, settings=settings, cwd=file.parent)
    old = qmodal.Cls.from_name("shop", "Counter")().where.remote()
    call = function("sleepy").spawn(str(marker), str(file.parent / "alarm"))
    wait_until(marker.exists, what="the input runs")
    file.write_text(
        source(2).replace("not os.path.exists(alarm)", "False").replace("sleep(1)", "sleep(0)")
    )
    say("deploy", "--strategy", "recreate", file, settings=settings, cwd=file.parent)
    assert not Path(f"/proc/{old}").exists()
    assert call.get(timeout=30) == 2
    assert marker.read_text().split() == ["begun", "begun", "done"]


@pytest.mark.usefixtures("box")
def test_a_stopped_app_runs_its_exit_hooks_and_is_found_by_its_name(
    file: Path, settings: Settings, client: Client
) -> None:
    say("deploy", file, settings=settings, cwd=file.parent)
    app = qmodal.App.lookup("shop")
    pid = qmodal.Cls.from_name("shop", "Counter")().where.remote()
    assert app.get_tags() == {"team": "a"}
    app.set_tags({"team": "b"})
    assert qmodal.App.lookup(str(app.app_id)).get_tags() == {"team": "b"}
    say("app", "stop", "-y", "shop", settings=settings, cwd=file.parent)
    wait_until(lambda: not Path(f"/proc/{pid}").exists(), what="its container has left")
    wait_until(
        lambda: "counter leaves" in say("app", "logs", "shop", settings=settings, cwd=file.parent),
        what="the exit hook's output",
    )
    again = say("app", "stop", "-y", "shop", settings=settings, cwd=file.parent)
    assert "has stopped already" in again
    with pytest.raises(NotFoundError):
        qmodal.App.lookup("shop")


@pytest.mark.usefixtures("box")
def test_environments_do_not_meet(file: Path, settings: Settings) -> None:
    say("deploy", file, settings=settings, cwd=file.parent)
    file.write_text(source(5))
    say("deploy", "-e", "dev", file, settings=settings, cwd=file.parent)
    assert function().remote() == 1
    assert function(environment_name="dev").remote() == 5
    assert qmodal.App.lookup("shop", environment_name="dev").app_id != (
        qmodal.App.lookup("shop").app_id
    )


@pytest.mark.usefixtures("box")
def test_a_detached_app_outlives_its_killed_client_until_its_work_is_done(
    file: Path, settings: Settings, client: Client
) -> None:
    marker, alarm = file.parent / "marker", file.parent / "alarm"
    argv = ("run", "-d", "-n", "aside", f"{file}::sleepy", "--marker", str(marker))
    with started(*argv, "--alarm", alarm, settings=settings, cwd=file.parent) as running:
        wait_until(marker.exists, what="the input runs", seconds=20)
        running.kill()
    (key,) = [key for key in client.run(_keys(client)) if key.endswith(b":client")]
    client.run(_delete(client, key))  # as 30 s without a heartbeat do
    alarm.touch()  # a second later it is done
    wait_until(lambda: "done" in marker.read_text(), what="the work goes on")
    stopped = wait_until(
        lambda: client.run(client.apps.last_stopped("main", "aside")), what="the app ends"
    )
    assert stopped
    record = client.run(client.apps.record(stopped))
    assert record is not None
    assert record.state == "stopped"


def _keys(client: Client) -> Any:
    from qmodal.transport.operation import ask_one

    return (yield from ask_one(b"KEYS", f"{client.settings.prefix}:*"))


def _delete(client: Client, key: bytes) -> Any:
    from qmodal.transport.operation import ask_one

    return (yield from ask_one(b"DEL", key))


@pytest.mark.usefixtures("box")
def test_a_served_app_is_published_anew_when_its_source_changes(
    file: Path, settings: Settings
) -> None:
    with started("serve", file, settings=settings, cwd=file.parent) as serving:
        said = serving.stderr
        assert said is not None
        introduced = said.readline()
        app_id = introduced.partition("(")[2].partition(")")[0]

        def number() -> Any:
            return qmodal.Function.from_name(app_id, "number").remote()

        assert said.readline() == "Published version 1\n"
        assert number() == 1
        file.write_text("syntax error\n")
        assert said.readline() == f"{file} has changed\n"
        complaint = said.readline()
        while complaint and "not published" not in complaint:
            complaint = said.readline()
        assert complaint
        assert number() == 1
        file.write_text(source(7))
        wait_until(lambda: number() == 7, what="the new code runs", seconds=20)
        serving.send_signal(signal.SIGINT)
        serving.communicate(timeout=20)
        assert serving.returncode == 0
    with pytest.raises(NotFoundError):
        qmodal.App.lookup(app_id)


SLOW_IMPORT = """
import time
from pathlib import Path
here = Path(__file__).parent
(here / "begun").touch()
while not (here / "go").exists():
    time.sleep(0.01)
"""


@pytest.mark.usefixtures("box")
def test_what_changes_while_a_served_app_is_published_is_published_next(
    file: Path, settings: Settings
) -> None:
    with started("serve", file, settings=settings, cwd=file.parent) as serving:
        said = serving.stderr
        assert said is not None
        app_id = said.readline().partition("(")[2].partition(")")[0]
        file.write_text(source(5) + SLOW_IMPORT)
        wait_until((file.parent / "begun").exists, what="the second version is read", seconds=20)
        file.write_text(source(7))
        (file.parent / "go").touch()
        number = qmodal.Function.from_name(app_id, "number")
        wait_until(lambda: number.remote() == 7, what="the third version runs", seconds=20)
        serving.send_signal(signal.SIGINT)
        serving.communicate(timeout=20)


def test_serving_ends_after_its_time(file: Path) -> None:
    done = command("serve", "--timeout", "1", file, cwd=file.parent)
    assert done.returncode == 0, done.stderr
    assert "Serving shop" in done.stderr


def test_a_script_on_standard_input_is_run(file: Path) -> None:
    script = SOURCE + "\n@app.local_entrypoint()\ndef main(): print('got', ask_number.remote())\n"
    done = subprocess.run(
        [QMODAL, "run", "-"],
        input=script,
        cwd=file.parent,
        env=environ(QMODAL_HOME=str(file.parent / "home")),
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "got 1" in done.stdout


def test_an_app_that_was_looked_up_has_no_definitions(settings: Settings, client: Client) -> None:
    before = clients.use(client)
    app = qmodal.App.lookup("empty", create_if_missing=True)
    assert app.app_id == qmodal.App.lookup("empty").app_id
    with pytest.raises(AttributeError, match="looked up"):
        print(app.registered_functions)
    app.stop()
    clients.use(before)


def test_exit_hooks_run_when_the_app_ends(file: Path) -> None:
    done = command("run", f"{file}::Counter.where", cwd=file.parent)
    assert done.returncode == 0, done.stderr
    assert "counter leaves" in done.stdout


def test_an_app_that_includes_another_runs_both(file: Path) -> None:
    whole = file.parent / "whole.py"
    whole.write_text(
        "import qmodal\nimport shop\n"
        "app = qmodal.App('whole').include(shop.app)\n"
        "@app.function()\ndef both():\n    return [shop.ask_number.remote(), shop.number.local()]\n"
        "@app.local_entrypoint()\ndef main():\n    print(both.remote(), shop.number.remote())\n"
    )
    done = command("run", whole, cwd=file.parent)
    assert done.returncode == 0, done.stderr
    assert "[1, 1] 1" in done.stdout
