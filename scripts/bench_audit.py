"""`scripts/bench audit`: what the audit log costs whoever reads very many records.

    scripts/bench audit [--records N] [--repetitions N]

Times `cat *` of one user's records, warm and with a fresh mount, with the audit log at each level and without one. The
targets take turns in every repetition; what is printed last is the time at level `access` as a ratio to that at level
`denied`, which writes nothing here. Needs root.
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
TARGETS = ("none", "denied", "access", "all")


def is_mounted(path):
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    return any(line.split(" ")[4] == str(path) for line in mounts)


def measure(base, level, records):
    """Seconds for the first and for the second read of all records, and how many lines they took."""
    binary = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release" / "tenantfs"
    mountpoint, log = base / "mnt", base / "log" / f"{level}.jsonl"
    options = ["--volume", base / "volume", "--uid", str(ALICE_UID), "--static-keys", base / "keys.json"]
    options += ["--api-key-file", base / "api-key"]
    if level != "none":
        options += ["--audit-log", log, "--audit-level", level]
    command = [binary, "mount", mountpoint, *options]
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    try:
        if server.stdout.readline().strip() != str(mountpoint):
            sys.exit("scripts/bench: it did not mount")
        read = ["setpriv", f"--reuid={ALICE_UID}", f"--regid={ALICE_UID}", "--clear-groups", "env", "-C"]
        read += [mountpoint / "schedules", "sh", "-c", "cat -- * | wc -c"]
        times = []
        for _ in range(2):
            start = time.monotonic()
            output = subprocess.run(read, check=True, stdout=subprocess.PIPE, text=True).stdout
            times.append(time.monotonic() - start)
            assert int(output) > records * 900
    finally:
        server.terminate()
        server.wait(20)
        if is_mounted(mountpoint):
            subprocess.run(["umount", "-l", mountpoint], check=False)
    lines = log.read_text().count("\n") if level != "none" else 0
    if level != "none":
        subprocess.run([binary, "audit", "verify", log], check=True, stdout=subprocess.DEVNULL)
    return times, lines


def run(base, args):
    volume = base / "volume"
    for directory in (volume, base / "log", base / "mnt"):
        directory.mkdir()
    service = RecordService(volume)
    for number in range(args.records):
        service.save("alice", "schedules", f"record-{number:06}", {"number": number, "padding": "x" * (900 + number % 3000)})
    service.directory("alice", "results").mkdir(parents=True)
    subprocess.run(["chown", "-R", f"{SERVICE_UID}:{SERVICE_UID}", volume, base / "log"], check=True)
    volume.chmod(0o750)
    digest = hashlib.sha256(API_KEY.encode()).hexdigest()
    for name, text in (
        ("keys.json", json.dumps({"keys": [{"sha256": digest, "user_id": "alice"}]})),
        ("api-key", API_KEY),
    ):
        (base / name).write_text(text)
        (base / name).chmod(0o600)

    times = {level: ([], []) for level in TARGETS}
    lines = {}
    for number in range(args.repetitions):
        turn = number % len(TARGETS)
        for level in TARGETS[turn:] + TARGETS[:turn]:
            measured, total = measure(base, level, args.records)
            lines[level] = total - lines.get(f"{level} before", 0)
            lines[f"{level} before"] = total
            for kept, seconds in zip(times[level], measured):
                kept.append(seconds)
    print(f"# cat of {args.records} records, {os.cpu_count()} cores, {args.repetitions} repetitions; seconds, min/median")
    print(f"{'audit log':12}{'fresh mount':>18}{'again':>18}{'lines':>10}")
    for level in TARGETS:
        columns = "".join(f"{f'{min(kept):.3f}/{statistics.median(kept):.3f}':>18}" for kept in times[level])
        print(f"{level:12}{columns}{lines[level]:>10}")
    for index, name in enumerate(("fresh mount", "again")):
        middle, best = (
            reduce(times["access"][index]) / reduce(times["denied"][index]) for reduce in (statistics.median, min)
        )
        print(f"access / denied, {name}: {middle:.3f} by medians, {best:.3f} by the fastest")


def main(arguments):
    parser = argparse.ArgumentParser(prog="scripts/bench audit", description="Times reading with an audit log.")
    parser.add_argument("--records", type=int, default=10_000)
    parser.add_argument("--repetitions", type=int, default=8)
    args = parser.parse_args(arguments)
    subprocess.run(["cargo", "build", "--release", "--locked", "--quiet"], cwd=ROOT, check=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("scripts/bench: terminated"))
    with tempfile.TemporaryDirectory(prefix="tenantfs-bench-", dir="/var/tmp") as base:
        os.chmod(base, 0o755)
        run(Path(base), args)
