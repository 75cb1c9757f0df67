"""The commands that look: apps, containers, workers, logs, key and doctor, on a live server."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from qmodal.cli.commands import doctor_checks
from qmodal.client.client import Client
from qmodal.config import Settings
from qmodal.store.fleet import ContainerReport, WorkerReport
from qmodal.store.history.logs import LogChunk
from qmodal.wire.publishing import public_of
from qmodal.wire.route import RouteName
from tests.support.commands import qmodal, started
from tests.support.servers import TestServer, reserved_port, run_server, server_binary
from tests.support.stacks import first_line, short_folder, up
from tests.support.waiting import wait_until
from tests.support.web.gateways import announce

PROGRAM = """
import helper
import qmodal
app = qmodal.App("lists")

@app.function()
def square(x: int) -> int:
    return x * x

@app.function()
def count(n: int):
    yield from range(n)

@app.function()
@qmodal.fastapi_endpoint()
def page() -> str:
    return ""

@app.cls()
class Model:
    size: int = qmodal.parameter()

    @qmodal.method()
    def predict(self) -> int:
        return self.size

    @qmodal.method()
    def tokens(self):
        yield self.size
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "helper.py").write_text("")
    (tmp_path / "lists.py").write_text(PROGRAM)
    return tmp_path / "lists.py"


@pytest.fixture
def deployed(file: Path, settings: Settings, client: Client) -> Iterator[str]:
    """The id of a deployed app."""
    said = qmodal("deploy", file, settings=settings, cwd=file.parent)
    assert said.returncode == 0, said.stderr
    app_id = client.run(client.apps.find("main", "lists"))
    assert app_id is not None
    yield app_id
    record = client.run(client.apps.record(app_id))
    assert record is not None
    client.run(client.apps.stop(record))


@pytest.fixture
def worker(client: Client) -> Iterator[str]:
    """A worker that says that it runs two containers, one of which has ended."""
    name = "wk-lists"
    report = WorkerReport(
        worker=name,
        host="box",
        pid=os.getpid(),
        cpus=2.0,
        memory=2**31,
        max_containers=4,
        python="3.11",
        version="0",
        gpus=("GPU-1 81920 A100-80GB",) * 2,
        labels=("zone=a", "fast"),
        is_measured=True,
    )
    client.run(client.fleet.enroll(report))
    now = time.time_ns() // 1_000_000
    alive = ContainerReport(
        container="ta-lists-1",
        pool="00" * 16,
        app="ap-" + "0" * 22,
        function="square",
        label="square",
        number=1,
        state="ready",
        since=now - 5000,
        gpus=("GPU-1",),
    )
    ended = replace(alive, container="ta-lists-2", state="ended")
    client.run(client.fleet.renew(name, {"ta-lists-1": alive, "ta-lists-2": ended}))
    yield name
    client.run(client.fleet.retire(name))


def test_a_deploy_says_what_it_deployed_and_how_to_call_it(
    file: Path, settings: Settings, deployed: str
) -> None:
    same = qmodal("deploy", file, settings=settings, cwd=file.parent)
    assert same.stdout.startswith(f"Nothing has changed since lists version 1 ({deployed})")
    file.write_text(f"{file.read_text()}# changed\n")
    again = qmodal("deploy", file, settings=settings, cwd=file.parent)
    first, *calls = again.stdout.splitlines()
    assert first == f"Deployed lists version 2 ({deployed}) to main:"
    assert [call.strip() for call in calls] == [
        'qmodal.Function.from_name("lists", "square").remote(...)',
        'qmodal.Function.from_name("lists", "count").remote_gen(...)',
        'qmodal.Function.from_name("lists", "page") => (no gateway runs: start `qmodal web`)',
        'qmodal.Cls.from_name("lists", "Model")(...).predict.remote(...)',
        'qmodal.Cls.from_name("lists", "Model")(...).tokens.remote_gen(...)',
    ]


def test_a_deploy_under_another_name_and_environment(
    file: Path, settings: Settings, client: Client
) -> None:
    argv = ("deploy", "--name", "other", "-e", "test", f"{file}::app")
    assert qmodal(*argv, settings=settings, cwd=file.parent).returncode == 0
    assert client.run(client.apps.find("test", "other")) is not None
    stop = ("app", "stop", "other", "-e", "test", "-y")
    assert qmodal(*stop, settings=settings, cwd=file.parent).returncode == 0
    assert client.run(client.apps.find("test", "other")) is None


def test_a_dry_run_lists_the_files_and_needs_no_server(file: Path) -> None:
    said = qmodal("deploy", "--dry-run", file, cwd=file.parent)
    assert said.returncode == 0, said.stderr
    *files, total = said.stdout.splitlines()
    assert [line.split()[-1] for line in files] == ["helper.py", "lists.py"]
    assert total.startswith("2 files")


def test_a_deploy_without_a_server_is_refused_before_the_file_runs(file: Path) -> None:
    file.write_text("raise SystemExit('ran')")
    said = qmodal("deploy", file, cwd=file.parent)
    assert said.returncode == 2
    assert "QMODAL_REDIS_URL" in said.stderr
    assert len(said.stderr.splitlines()) == 1


def test_deployed_apps_are_listed(settings: Settings, deployed: str, tmp_path: Path) -> None:
    said = qmodal("app", "list", "--json", settings=settings, cwd=tmp_path)
    rows = json.loads(said.stdout)
    assert rows[0].pop("age") < 3600
    assert rows == [
        {
            "name": "lists",
            "environment": "main",
            "app": deployed,
            "state": "deployed",
            "version": 1,
            "containers": 0,
            "backlog": 0,
            "web": [],
        }
    ]
    plain = qmodal("app", "list", settings=settings, cwd=tmp_path)
    heading, row = plain.stdout.splitlines()
    columns = [
        "NAME",
        "ENVIRONMENT",
        "APP",
        "STATE",
        "VERSION",
        "AGE",
        "CONTAINERS",
        "BACKLOG",
        "WEB",
    ]
    assert heading.split() == columns
    assert row.split()[:5] == ["lists", "main", deployed, "deployed", "1"]
    assert "no gateway runs: start `qmodal web`" in plain.stderr


def test_stopped_apps_are_listed_on_request_and_beginnings_of_ids_are_enough(
    settings: Settings, deployed: str, tmp_path: Path
) -> None:
    def listed(*more: str) -> list[tuple[str, str]]:
        said = qmodal("app", "list", "--json", *more, settings=settings, cwd=tmp_path)
        return [(row["app"], row["state"]) for row in json.loads(said.stdout)]

    assert listed("-e", "main") == [(deployed, "deployed")]
    assert listed("-e", "other") == []
    history = qmodal("app", "history", deployed[:9], "--json", settings=settings, cwd=tmp_path)
    assert json.loads(history.stdout)[0]["version"] == 1
    stopped = qmodal("app", "stop", "-y", deployed[:10], settings=settings, cwd=tmp_path)
    assert deployed in stopped.stdout
    assert (deployed, "stopped") not in listed()
    assert (deployed, "stopped") in listed("--all", "-e", "main")
    assert listed("--all", "-e", "other") == []


def test_lists_and_deploys_say_where_web_functions_answer(
    file: Path, settings: Settings, client: Client, deployed: str
) -> None:
    announce(client)
    listed = qmodal("app", "list", settings=settings, cwd=file.parent)
    assert listed.stdout.splitlines()[1].split()[-1] == "http://127.0.0.1:8000/lists/page"
    assert listed.stderr == ""
    outside = {"QMODAL_WEB_URL": "https://example.com"}
    said = qmodal("deploy", file, settings=settings, cwd=file.parent, **outside)
    assert '"page") => https://lists-page.example.com\n' in said.stdout


def test_a_run_says_where_web_functions_answer(
    file: Path, settings: Settings, client: Client
) -> None:
    file.write_text(f"{PROGRAM}\n@app.local_entrypoint()\ndef main(): print('done')\n")
    announce(client)
    said = qmodal("run", file, settings=settings, cwd=file.parent)
    assert (said.stdout, said.stderr) == (
        "done\n",
        "page => http://127.0.0.1:8000/lists-dev/page\n",
    )
    assert qmodal("run", "-q", file, settings=settings, cwd=file.parent).stderr == ""


def test_a_served_app_says_where_its_web_functions_answer_and_when_that_changes(
    file: Path, settings: Settings, client: Client
) -> None:
    announce(client)
    with started("serve", file, settings=settings, cwd=file.parent) as serving:
        said = serving.stderr
        assert said is not None
        assert said.readline().startswith("Serving lists (")
        assert said.readline() == "Published version 1\n"
        assert said.readline() == "page => http://127.0.0.1:8000/lists-dev/page\n"
        file.write_text(f"{PROGRAM}\n# changed\n")
        assert said.readline() == f"{file} has changed\n"
        file.write_text(PROGRAM.replace("def page", "def front"))
        while (line := said.readline()).startswith((str(file), "Published version ")):
            continue
        assert line == "front => http://127.0.0.1:8000/lists-dev/front\n"
        serving.send_signal(signal.SIGINT)
        serving.communicate(timeout=20)
    gone: RouteName = ("path", "lists-dev/front")
    assert client.run(client.routes.find([gone])) == [None]


def test_stopping_an_app_asks_first(settings: Settings, deployed: str, tmp_path: Path) -> None:
    unsure = qmodal("app", "stop", "lists", settings=settings, cwd=tmp_path)
    assert unsure.returncode == 1
    assert "Stop lists" in unsure.stdout
    sure = qmodal("app", "stop", "lists", "-y", settings=settings, cwd=tmp_path)
    assert sure.stdout == f"Stopped lists ({deployed})\n"
    gone = qmodal("app", "stop", "lists", "-y", settings=settings, cwd=tmp_path)
    assert gone.stdout == f"lists ({deployed}) has stopped already\n"
    strange = qmodal("app", "stop", "strange", "-y", settings=settings, cwd=tmp_path)
    assert strange.returncode == 1
    assert "no app 'strange'" in strange.stderr


def test_logs_are_shown_and_followed_to_the_end_of_the_app(
    settings: Settings, client: Client, deployed: str, tmp_path: Path
) -> None:
    client.run(client.logs.append(deployed, [LogChunk("ta-1", "stdout", b"first\n")]))
    said = qmodal("app", "logs", "lists", settings=settings, cwd=tmp_path)
    assert said.stdout == "first\n"
    with started("app", "logs", "-f", deployed, settings=settings, cwd=tmp_path) as following:
        assert following.stdout is not None
        assert following.stdout.readline() == "first\n"
        client.run(client.logs.append(deployed, [LogChunk("ta-1", "stderr", b"second\n")]))
        assert following.stdout.readline() == "second\n"
        qmodal("app", "stop", deployed, "-y", settings=settings, cwd=tmp_path)
        assert following.wait(10) == 0


def test_workers_and_their_containers_are_listed(
    settings: Settings, worker: str, tmp_path: Path
) -> None:
    said = qmodal("worker", "list", "--json", settings=settings, cwd=tmp_path)
    (row,) = json.loads(said.stdout)
    assert 0 < row.pop("lease") <= 10
    assert row == {
        "worker": worker,
        "host": "box",
        "pid": os.getpid(),
        "state": "ready",
        "cordoned": None,
        "cpus": 2.0,
        "memory": 2**31,
        "gpus": [{"uuid": "GPU-1", "kind": "A100-80GB", "memory": 81920}] * 2,
        "labels": ["zone=a", "fast"],
        "containers": 1,
        "max_containers": 4,
        "is_measured": True,
        "python": "3.11",
        "version": "0",
    }
    said = qmodal("container", "list", "--json", settings=settings, cwd=tmp_path)
    (row,) = json.loads(said.stdout)
    assert row["age"] >= 5
    assert (row["container"], row["pool"], row["state"]) == ("ta-lists-1", "square", "ready")
    heading, line = qmodal("worker", "list", settings=settings, cwd=tmp_path).stdout.splitlines()
    assert heading.split() == [
        "WORKER",
        "HOST",
        "CPUS",
        "MEMORY",
        "GPUS",
        "LABELS",
        "RUNS",
        "STATE",
    ]
    assert line.split() == f"{worker} box 2 2.0 GiB 2xA100-80GB zone=a, f… 1/4 ready".split()
    assert len(line) <= 80


def test_a_box_is_shown_with_what_its_containers_take(
    settings: Settings, worker: str, client: Client, tmp_path: Path
) -> None:
    said = qmodal("worker", "show", "box", settings=settings, cwd=tmp_path)
    assert said.returncode == 0, said.stderr
    assert max(map(len, said.stdout.splitlines())) <= 80
    found = dict(line.split(maxsplit=1) for line in said.stdout.split("\n\n")[0].splitlines())
    assert found["state"] == "ready"
    assert found["labels"] == "zone=a, fast"
    assert found["gpus"] == "2xA100-80GB; 1 leased"
    assert found["containers"] == "1, 4 at most"
    assert said.stdout.splitlines()[-1].split()[:3] == ["ta-lists-1", "square", "ready"]
    about = json.loads(
        qmodal("worker", "show", worker[:5], "--json", settings=settings, cwd=tmp_path).stdout
    )
    (container,) = about["containers"]
    assert container["gpus"] == ["GPU-1"]
    assert container["is_cpu_measured"]
    assert (container["cpu"], container["memory"]) == (0, 128 * 2**20), "idle, and not measured yet"
    assert about["cpus_taken"] == 0


def test_a_box_is_cordoned_drained_and_uncordoned_by_id_and_by_host(
    settings: Settings, worker: str, client: Client, tmp_path: Path
) -> None:
    def state() -> str:
        assert client.run(client.fleet.renew(worker, {}))
        said = qmodal("worker", "list", "--json", settings=settings, cwd=tmp_path)
        (row,) = json.loads(said.stdout)
        return str(row["state"])

    said = qmodal("worker", "cordon", "box", settings=settings, cwd=tmp_path)
    assert said.stdout.startswith(f"Cordoned {worker}: ")
    assert state() == "cordoned"
    qmodal("worker", "drain", worker, settings=settings, cwd=tmp_path)
    assert state() == "draining"
    said = qmodal("worker", "show", "lists", settings=settings, cwd=tmp_path)
    assert "draining for " in said.stdout
    client.run(client.fleet.renew(worker, {"ta-lists-1": None}))
    said = qmodal("worker", "drain", worker, "--wait", settings=settings, cwd=tmp_path)
    assert said.stdout.splitlines()[1] == f"{worker} runs nothing any more"
    assert state() == "drained"
    qmodal("worker", "uncordon", worker, settings=settings, cwd=tmp_path)
    assert state() == "ready"


def test_a_box_that_is_not_there_or_not_the_only_one_is_named(
    settings: Settings, worker: str, client: Client, tmp_path: Path
) -> None:
    said = qmodal("worker", "cordon", "nowhere", settings=settings, cwd=tmp_path)
    assert said.returncode == 1
    assert "There is no box 'nowhere'" in said.stderr
    (report,) = client.run(client.fleet.reports([worker]))
    client.run(client.fleet.enroll(replace(report, worker="wk-second")))
    said = qmodal("worker", "cordon", "box", settings=settings, cwd=tmp_path)
    client.run(client.fleet.retire("wk-second"))
    assert said.returncode == 1
    assert "2 boxes are called 'box'" in said.stderr


def test_the_doctor_finds_a_good_server_good(settings: Settings, tmp_path: Path) -> None:
    said = qmodal("doctor", settings=settings, cwd=tmp_path)
    found = {line[6:18].strip(): line[:4].strip() for line in said.stdout.splitlines()}
    assert said.returncode == 0, said.stdout + said.stderr
    for what in ("python", "GPUs", "settings", "connection", "server", "signing key", "ACL"):
        assert found[what] == "ok", said.stdout
    assert (found["workers"], found["autoscaler"]) == ("warn", "warn")


def test_the_doctor_counts_leases_by_the_servers_clock(
    client: Client, worker: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    an_hour_later = time.time() + 3600
    with monkeypatch.context() as wrong_clock:
        wrong_clock.setattr(time, "time", lambda: an_hour_later)
        found = client.run(doctor_checks.workers(client))
    assert (found.state, found.found) == ("ok", "1 with a lease")


def test_the_doctor_names_what_cannot_work(settings: Settings, tmp_path: Path) -> None:
    with run_server(server_binary(), "--maxmemory-policy", "allkeys-lru") as bad:
        said = qmodal("doctor", settings=replace(settings, redis_url=bad.url), cwd=tmp_path)
    assert said.returncode == 2
    assert "CONFIG SET maxmemory-policy noeviction" in said.stdout
    with_wrong_key = replace(settings, signing_key=b"another key of 32 bytes or more..")
    assert qmodal("app", "list", settings=settings, cwd=tmp_path).returncode == 0
    said = qmodal("doctor", settings=with_wrong_key, cwd=tmp_path)
    assert said.returncode == 2
    assert "fail  signing key" in said.stdout


def test_a_state_folder_that_cannot_be_used_is_found_by_the_doctor_and_named_by_a_worker(
    settings: Settings, tmp_path: Path
) -> None:
    (tmp_path / "home").touch()
    for command, said_by in (("doctor", "stdout"), ("worker", "stderr")):
        said = qmodal(command, settings=settings, cwd=tmp_path)
        assert said.returncode == 2
        assert f"QMODAL_HOME: {tmp_path / 'home'} cannot be used" in getattr(said, said_by)


def test_a_worker_is_as_quiet_as_it_is_told(
    settings: Settings, client: Client, tmp_path: Path
) -> None:
    with started("worker", "--log-level", "error", settings=settings, cwd=tmp_path) as worker:
        wait_until(lambda: client.run(client.fleet.workers()), what="it has enrolled")
        worker.send_signal(signal.SIGTERM)
        _, said = worker.communicate()
    assert said == ""


def test_a_worker_says_what_it_offers_to_whom(settings: Settings, tmp_path: Path) -> None:
    offer = ("--max-containers", "3", "--cpus", "0.5", "--memory", "64")
    labels = ("--label", "zone=a", "--label", "fast")
    command = ("worker", *offer, *labels, "--log-level", "INFO")
    with started(*command, settings=settings, cwd=tmp_path) as worker:
        assert worker.stderr is not None
        line = worker.stderr.readline()
        worker.send_signal(signal.SIGTERM)
        worker.wait()
    assert " 0.5 CPUs, 64.0 MiB, up to 3 containers, zone=a, fast, signing key " in line
    assert "INFO wk-" in line


def test_the_doctor_tells_which_commands_an_acl_forbids(
    server: TestServer, settings: Settings, tmp_path: Path
) -> None:
    with server.plain() as plain:
        plain.acl_setuser(
            "narrow", enabled=True, passwords=["+pw"], keys=["*"], commands=["+@all", "-xadd"]
        )
    url = f"{server.url.replace('unix://', 'unix://narrow:pw@')}"
    said = qmodal("doctor", settings=replace(settings, redis_url=url), cwd=tmp_path)
    with server.plain() as plain:
        plain.acl_deluser("narrow")
    assert said.returncode == 2
    assert "user narrow may not: XADD" in said.stdout
    assert "pw@" not in said.stdout


def test_the_doctor_tells_a_newcomer_that_nothing_is_needed(tmp_path: Path) -> None:
    said = qmodal("doctor", cwd=tmp_path)
    assert said.returncode == 0
    assert "private one" in said.stdout


def test_a_server_for_this_machine_alone_has_no_line_for_others(
    settings: Settings, tmp_path: Path
) -> None:
    said = qmodal("key", "show", settings=settings, cwd=tmp_path)
    assert said.returncode == 2
    assert "--bind" in said.stderr


def test_a_second_machine_gets_the_address_and_the_key(settings: Settings, tmp_path: Path) -> None:
    with (
        short_folder() as home,
        reserved_port() as port,
        up(home, "--bind", f"0.0.0.0:{port}") as running,
    ):
        first_line(running)
        near = replace(settings, redis_url=None, signing_key=None, prefix="qmodal")
        said = qmodal("key", "show", settings=near, cwd=tmp_path, QMODAL_HOME=str(home))
        deployer = qmodal(
            "key", "show", "--publishing", settings=near, cwd=tmp_path, QMODAL_HOME=str(home)
        )
        private = (home / "publishing-key").read_text().strip()
        key = (home / "key").read_text().strip()
        password = (home / "password").read_text().strip()
    assert said.returncode == 0, said.stderr
    public = public_of(bytes.fromhex(private)).hex()
    keys = f" QMODAL_SIGNING_KEY={key} QMODAL_PUBLISHERS={public} "
    assert f"{keys}qmodal worker" in said.stdout
    assert private not in said.stdout, "a worker does not publish"
    assert f"{keys}QMODAL_PUBLISHING_KEY={private}" in deployer.stdout
    assert f"redis://:{password}@" in said.stdout


def test_a_list_needs_a_server(tmp_path: Path) -> None:
    for argv in (("app", "list"), ("worker", "list"), ("container", "list"), ("key", "show")):
        said = qmodal(*argv, cwd=tmp_path)
        assert said.returncode == 2, argv
        assert "QMODAL_REDIS_URL" in said.stderr


def test_a_token_is_made_listed_and_revoked(file: Path, settings: Settings, client: Client) -> None:
    def said(*argv: str) -> str:
        done = qmodal("token", *argv, settings=settings, cwd=file.parent)
        assert done.returncode == 0, done.stderr
        return done.stdout

    headers = dict(line.split(": ") for line in said("new", "--note", "the shop").splitlines())
    assert list(headers) == ["Modal-Key", "Modal-Secret"]
    token, secret = headers.values()
    assert client.run(client.tokens.verify(token, secret))
    assert not client.run(client.tokens.verify(token, secret[:-1]))
    (row,) = json.loads(said("list", "--json"))
    assert (row["token"], row["note"]) == (token, "the shop")
    assert secret not in said("list")
    assert said("revoke", "-y", token) == f"Revoked {token}\n"
    assert json.loads(said("list", "--json")) == []
    again = qmodal("token", "revoke", "-y", token, settings=settings, cwd=file.parent)
    assert again.returncode == 1
    assert again.stderr == f"Error: there is no token {token}; `qmodal token list` shows them.\n"
