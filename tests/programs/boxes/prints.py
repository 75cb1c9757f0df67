"""Functions that print in all the ways there are."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import qmodal

app = qmodal.App("prints")


@app.function(max_containers=1)
def everywhere(word: str) -> str:
    print("printed", word)
    print("on stderr", word, file=sys.stderr)
    os.write(1, f"written {word}\n".encode())
    subprocess.run(["/bin/sh", "-c", f"echo of a program {word}; echo and its errors {word} >&2"])
    thread = threading.Thread(target=print, args=("of a thread", word))
    thread.start()
    thread.join()
    return word


@app.function(max_containers=1)
def half(word: str) -> None:
    print(word, end="")


@app.function(max_containers=1, retries=0)
def dies(word: str, how: str) -> None:
    print("last words", word)
    os.write(2, f"not a whole line {word}".encode())
    if how == "exit":
        os._exit(3)
    os.kill(os.getpid(), signal.SIGKILL)


@app.function(max_containers=1)
def seldom(number: int) -> int:
    if number % 100 == 0:
        print("input", number)
    return number


both_are_here = asyncio.Event()


@app.function(max_containers=1)
@qmodal.concurrent(max_inputs=2)
async def together(word: str) -> None:
    print("before", word)
    if word == "second":
        both_are_here.set()
    await both_are_here.wait()
    print("with another", word)
    await asyncio.sleep(0)


@app.function(max_containers=1)
def floods(megabytes: int) -> float:
    line, began = b"x" * 1023 + b"\n", time.monotonic()
    for _ in range(megabytes * 1024):
        os.write(1, line)
    print("behind it")
    return time.monotonic() - began


@app.function(max_containers=1)
def elsewhere(path: str) -> str:
    """Leads its standard output to a file, and back."""
    saved = os.dup(1)
    file = os.open(path, os.O_RDWR | os.O_CREAT)
    os.dup2(file, 1)
    os.close(file)
    print("into the file", flush=True)
    os.dup2(saved, 1)
    os.close(saved)
    print("back")
    return Path(path).read_text()


@app.function(max_containers=1)
def closes() -> None:
    """Closes all that is not its own, as daemons do."""
    print("closing")
    os.closerange(64, 1024)
