"""`qmodal secret` as people use it: values come from everywhere, and none is ever shown."""

from __future__ import annotations

import json
import os
import pty
import subprocess
from pathlib import Path

import pytest

from qmodal.client.client import Client
from qmodal.config import Settings
from tests.support.commands import PROGRAM, environ, qmodal

VALUE = "value-that-nobody-sees"


def values(client: Client, name: str, environment: str = "main") -> dict[str, str]:
    """What is stored; the secret is gone afterwards."""
    stored = client.run(client.secrets.find(environment, name))
    assert stored is not None
    assert client.run(client.secrets.delete(environment, name))
    return client.signer.open(stored.sealed, stored.place)


def fed(text: str, *argv: str, settings: Settings, cwd: Path) -> subprocess.CompletedProcess[str]:
    """One `qmodal secret create` with that standard input."""
    command = [PROGRAM, "secret", "create", *argv]
    return subprocess.run(
        command,
        cwd=cwd,
        env=environ(settings),
        input=text,
        capture_output=True,
        text=True,
        timeout=50,
    )


def test_values_come_from_the_command_line_files_and_standard_input(
    settings: Settings, client: Client, tmp_path: Path
) -> None:
    (tmp_path / "x.env").write_text(f"# first\nexport A='{VALUE} # 1'\nB=file\n")
    (tmp_path / "x.json").write_text(json.dumps({"C": VALUE, "B": "json"}))
    files = ("--from-dotenv", "x.env", "--from-json", "x.json")
    done = qmodal("secret", "create", "aws", "D=1=2", *files, settings=settings, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "Stored aws with A, B, C, D\n"), done.stderr
    assert values(client, "aws") == {"A": f"{VALUE} # 1", "B": "json", "C": VALUE, "D": "1=2"}
    for text, argv, expected in (
        (f"{VALUE}\nsecond\n", ("A=-", "B=2"), {"A": f"{VALUE}\nsecond", "B": "2"}),
        (f"A={VALUE}\n", ("--from-dotenv", "-"), {"A": VALUE}),
        (json.dumps({"A": VALUE}), ("--from-json", "-", "-e", "prod"), {"A": VALUE}),
    ):
        said = fed(text, "aws", *argv, settings=settings, cwd=tmp_path)
        assert said.returncode == 0, said.stderr
        assert VALUE not in said.stdout + said.stderr
        assert values(client, "aws", "prod" if "prod" in argv else "main") == expected


def test_a_value_is_asked_for_without_being_shown(
    settings: Settings, client: Client, tmp_path: Path
) -> None:
    ours, theirs = pty.openpty()
    command = [PROGRAM, "secret", "create", "aws", "A"]
    with subprocess.Popen(
        command,
        cwd=tmp_path,
        env=environ(settings),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    ) as process:
        os.close(theirs)
        shown = b""
        while b"A:" not in shown:
            shown += os.read(ours, 1000)
        os.write(ours, f"{VALUE}\n".encode())
        while b"Stored aws" not in shown:
            shown += os.read(ours, 1000)
        assert process.wait(30) == 0
    os.close(ours)
    assert VALUE.encode() not in shown
    assert values(client, "aws") == {"A": VALUE}


def test_secrets_are_listed_replaced_and_deleted(
    settings: Settings, client: Client, tmp_path: Path
) -> None:
    def said(*argv: str, code: int = 0) -> str:
        done = qmodal("secret", *argv, settings=settings, cwd=tmp_path)
        assert done.returncode == code, done.stderr
        assert VALUE not in done.stdout + done.stderr
        return done.stdout + done.stderr

    said("create", "aws", f"A={VALUE}")
    assert "--force replaces it" in said("create", "aws", "A=1", code=1)
    said("create", "aws", f"B={VALUE}", "--force")
    (row,) = json.loads(said("list", "--json"))
    assert (row["name"], row["used"]) == ("aws", None)
    assert set(row) == {"name", "age", "changed", "used"}
    assert "never" in said("list")
    assert json.loads(said("list", "--json", "-e", "prod")) == []
    assert said("delete", "-y", "aws") == "Deleted aws\n"
    assert "there is no secret aws" in said("delete", "-y", "aws", code=1)
    assert said("delete", "-y", "aws", "--allow-missing") == ""
    assert "already" not in said("create", "aws", "A=1")
    assert values(client, "aws") == {"A": "1"}


@pytest.mark.parametrize(
    ("argv", "words", "code"),
    [
        ((VALUE,), "Variable 1 is none", 2),
        (("A=1", f"9{VALUE}=2"), "Variable 2 is none", 2),
        (("A",), "no terminal to ask", 2),
        (("A=-", "B=-"), "Only one thing", 2),
        (("A=-", "--from-json", "-"), "Only one thing", 2),
        ((), "needs variables", 2),
        (("--from-json", "odd.json"), "no object in JSON", 1),
        (("--from-dotenv", "odd.env"), "cannot be read", 1),
        (("A=" + VALUE * 2000,), "takes 32768", 1),
    ],
)
def test_what_cannot_be_stored_is_refused_without_being_shown(
    settings: Settings, tmp_path: Path, argv: tuple[str, ...], words: str, code: int
) -> None:
    (tmp_path / "odd.json").write_text(f'{{"A": {VALUE}}}')
    (tmp_path / "odd.env").write_bytes(f"A={VALUE}\xff".encode("latin-1"))
    done = qmodal("secret", "create", "aws", *argv, settings=settings, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    assert words in done.stderr
    assert VALUE not in done.stderr
