"""How soon a mount shows what another program does on the volume: records are replaced, rewritten where they are, created and
removed, while a program in the mount looks until it sees that. The time begins before the change and has the half millisecond in it
in which that program waits between two looks. Beforehand everything is in the kernel's caches, and in the mount's.
"""

import json
import os
import random
import subprocess
import time

from bench_targets import SERVICE_UID, Failed

# What happens, and by what it is noticed.
CHANGES = (
    ("replaced", "size"),
    ("replaced", "text"),
    ("rewritten", "size"),
    ("rewritten", "text"),
    ("created", "present"),
    ("created", "listed"),
    ("removed", "absent"),
    ("removed", "unlisted"),
)


def record(number):
    return json.dumps({"user_id": "alice", "text": f"revision-{number}-", "padding": "x" * (number % 500)}).encode()


def place(path, content):
    """A file with that content, of the service; it is in place at once."""
    temporary = path.with_suffix(".tmp")
    temporary.write_bytes(content)
    os.chown(temporary, SERVICE_UID, SERVICE_UID)
    return lambda: temporary.rename(path)


def rewrite(path, content):
    """One write over what is there, which is as long or shorter. Another reader meets no part of it."""
    file = os.open(path, os.O_WRONLY)

    def change():
        os.pwrite(file, content, 0)
        os.close(file)

    return change


def prepare(kind, path, number):
    """What is there before a change, the change, and the content after it."""
    before, after = record(number), record(number + 1)
    if kind == "created":
        return place(path, after), after
    place(path, before)()
    if kind == "removed":
        return path.unlink, b""
    if kind == "rewritten":
        after = after.ljust(len(before) + 1)
        return rewrite(path, after), after
    return place(path, after), after


def expectation(way, path, content, number):
    value = {"size": [str(len(content))], "text": [f"revision-{number + 1}-"]}.get(way, [])
    return " ".join([way, path.name, *value]) + "\n"


def measure(target, each):
    """Seconds until a change is seen, by kind of change and by what it is seen; `each` of them."""
    target.cold()
    backing = target.backing("results")
    watcher = target.popen("results", "watch", stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    delays = {f"{kind}, {way}": [] for kind, way in CHANGES}
    pauses = random.Random(3)
    try:
        for number in range(each):
            for index, (kind, way) in enumerate(CHANGES):
                # Names that come and go are new ones, of which no cache knows.
                suffix = number if kind in ("created", "removed") else ""
                path = backing / f"seen-{index}{suffix}.json"
                change, content = prepare(kind, path, number)
                watcher.stdin.write(expectation(way, path, content, number))
                watcher.stdin.flush()
                if watcher.stdout.readline() != "ready\n":
                    raise Failed(f"{target.name} does not show what is on the volume: {kind}, {way}")
                time.sleep(pauses.uniform(0.001, 0.03))
                begin = time.monotonic()
                change()
                if watcher.stdout.readline() not in ("seen\n", "never\n"):
                    raise Failed(f"{target.name}: nobody looks any more")
                delays[f"{kind}, {way}"].append(time.monotonic() - begin)
    finally:
        watcher.stdin.close()
        watcher.wait(30)
        target.end()
        for path in backing.glob("seen-*"):
            path.unlink()
    return delays
