"""Works on a whole volume, and prints how fast that is beside reading every file.

    scripts/bench volume [--users N] [--records N] [--repetitions N]

A volume of 2,000 users with 50 records each. `tenantfs list --all`, `list --users-file` (all users in one pass, and a hundred by
their directories), `verify`, and `migrate` to the other layout and back, this beside a live mount and a Python service that goes
on saving: afterwards every record is compared with what was there before, and what was saved last must be there. The floor is
`find -exec cat {} +`, which reads as many files and understands none of them.
"""

import argparse
import hashlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))
from service import RecordService  # noqa: E402

SERVICE_UID, ALICE_UID = 61000, 61001
API_KEY = "key-of-the-benchmark-0123456789"
SERVICE = ROOT / "scripts" / "service.py"


def populate(root, users, records):
    service = RecordService(root)
    for user in range(users):
        for number in range(records):
            service.save(f"user-{user}", "schedules", f"record-{number:03}", {"number": number, "padding": "x" * (number * 40)})
    subprocess.run(["chown", "-R", f"{SERVICE_UID}:{SERVICE_UID}", root], check=True)
    Path(root).chmod(0o750)


def checksums(root):
    """Each record's content by its user's hash and its name, wherever the layout has it."""
    sums = {}
    for path in Path(root).rglob("*.json"):
        parts = path.relative_to(root).parts
        digest = parts[1]
        assert (digest, path.name) not in sums, f"{path} is there twice"
        sums[digest, path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return sums


def timed(repetitions, command, **options):
    times = []
    for _ in range(repetitions):
        begin = time.monotonic()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **options)
        times.append(time.monotonic() - begin)
    return min(times), statistics.median(times)


def report(name, count, times):
    fastest, median = times
    print(f"{name:34} {count:>8} {fastest:8.2f} {median:8.2f} {count / median:10.0f}", flush=True)


def main(arguments):
    program = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release" / "tenantfs"
    parser = argparse.ArgumentParser(prog="scripts/bench volume")
    parser.add_argument("--users", type=int, default=2000)
    parser.add_argument("--records", type=int, default=50)
    parser.add_argument("--repetitions", type=int, default=3)
    args = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="tenantfs-bench-", dir="/var/tmp") as base:
        base = Path(base)
        base.chmod(0o755)
        root = base / "volume"
        root.mkdir()
        populate(root, args.users, args.records)
        count = args.users * args.records
        on = ["--volume", str(root), "--audit-log", "none"]
        environment = {**os.environ, "TENANTFS_LOG": "error"}
        print(f"# {args.users} users with {args.records} records each, {os.cpu_count()} cores, {args.repetitions} repetitions")
        print(f"{'':34} {'records':>8} {'min s':>8} {'median s':>8} {'records/s':>10}")
        floor = ["find", str(root), "-name", "*.json", "-exec", "cat", "{}", "+"]
        report("find -exec cat", count, timed(args.repetitions, floor))

        def tenantfs(name, *options):
            return [program, name, *on, *options]

        everybody, some = base / "everybody", base / "some"
        everybody.write_text("".join(f"user-{user}\n" for user in range(args.users)))
        some.write_text("".join(f"user-{user}\n" for user in range(0, args.users, max(1, args.users // 100))))
        of_some = len(some.read_text().splitlines()) * args.records
        for label, records, options in [
            ("list --all", count, ["list", "--all"]),
            ("list --all --contents", count, ["list", "--all", "--contents"]),
            ("list --users-file, everybody", count, ["list", "--users-file", str(everybody)]),
            ("list --users-file, a hundred", of_some, ["list", "--users-file", str(some)]),
            ("verify", count, ["verify"]),
        ]:
            report(label, records, timed(args.repetitions, tenantfs(*options), env=environment))

        before = checksums(root)
        migrate(program, base, root, on, environment, count)
        after = checksums(root)
        changed = {key for key in before if before[key] != after.get(key)}
        added = {name for _, name in after.keys() - before.keys()}
        print(f"# of {len(before)} records {len(before) - len(changed)} are as they were; added: {sorted(added)}")
        assert not changed, changed
        assert added == {"live.json", "churned.json"}, added
        subprocess.run(tenantfs("verify", "--layout", "resource-first"), check=False, env=environment, stdout=subprocess.DEVNULL)


def migrate(program, base, root, on, environment, count):
    """There and back, beside a mount in which somebody writes, and a service."""
    keys, key, mountpoint = base / "keys.json", base / "key", base / "mnt"
    sha256 = hashlib.sha256(API_KEY.encode()).hexdigest()
    keys.write_text(json.dumps({"keys": [{"sha256": sha256, "user_id": "user-0"}]}))
    key.write_text(API_KEY)
    keys.chmod(0o600)
    key.chmod(0o600)
    mountpoint.mkdir()
    command = [program, "mount", str(mountpoint), *on, "--static-keys", str(keys), "--api-key-file", str(key), "--uid", str(ALICE_UID)]
    mount = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        assert mount.stdout.readline().strip() == str(mountpoint)
        as_user = ["setpriv", f"--reuid={ALICE_UID}", f"--regid={ALICE_UID}", "--clear-groups"]
        as_service = ["setpriv", f"--reuid={SERVICE_UID}", f"--regid={SERVICE_UID}", "--clear-groups"]
        writing = """
import itertools, json, os, signal, sys
go_on = True
def stop(*_):
    global go_on
    go_on = False
signal.signal(signal.SIGTERM, stop)
for number in itertools.count(1):
    with open('schedules/live.json', 'w') as file: json.dump({'number': number}, file)
    assert json.load(open('schedules/live.json'))['number'] == number
    if not go_on: break
print(number)
"""
        writer = subprocess.Popen(
            [*as_user, "env", "-C", str(mountpoint), "/usr/bin/python3", "-c", writing], stdout=subprocess.PIPE, text=True
        )
        copy = base / "service.py"
        copy.write_text(SERVICE.read_text())
        seconds = 20 + count / 2000
        service = subprocess.Popen(
            [*as_service, "/usr/bin/python3", "-B", str(copy), "--volume", str(root), "--follow", "loop", "user-1", "results", "churned",
             str(seconds)],
            stdout=subprocess.PIPE, text=True,
        )
        time.sleep(1)
        for source, target in [("resource-first", "user-first"), ("user-first", "resource-first")]:
            command = [program, "migrate", *on, "--from", source, "--to", target]
            report(f"migrate to {target}, live", count, timed(1, command, env=environment))
        writer.send_signal(signal.SIGTERM)
        last = int(writer.communicate(timeout=60)[0])
        saved = int(service.communicate(timeout=seconds + 60)[0])
        stored = {path.name: json.loads(path.read_text()) for name in ("live.json", "churned.json") for path in root.rglob(name)}
        assert stored["live.json"]["number"] == last, (stored["live.json"], last)
        assert stored["churned.json"]["revision"] == saved
        print(f"# the user saved {last} times, the service {saved} times; the last of each is there")
    finally:
        mount.send_signal(signal.SIGTERM)
        mount.wait(timeout=60)
