"""`scripts/bench inodes`: what one user can make the daemon and the kernel remember, at the bound.

    scripts/bench inodes [--records N]

Has one user keep descriptors (O_PATH) of as many records as can be had, with the shortest and with the longest names, and prints
the memory of the daemon and the slabs of the kernel before, at the bound and when the descriptors are closed. Needs root.
"""

import argparse
import contextlib
import hashlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench_sessions import FIRST_UID, ROOT, SERVICE_UID, Daemon, key, user

# Records in one directory.
EACH = 4096

# Run as the user, in its view: keeps whatever can be had, says how many that is, and lets go when it is told.
HOLD = """
import errno, os, sys
held, met = [], 'no bound'
try:
    for directory in sorted(os.listdir('schedules')):
        top = os.open('schedules/' + directory, os.O_RDONLY)
        held.append(top)
        for number in range(int(sys.argv[1])):
            held.append(os.open(sys.argv[2] % number, os.O_PATH, dir_fd=top))
except OSError as error:
    met = errno.errorcode[error.errno]
print(len(held), met, flush=True)
sys.stdin.readline()
"""


def plant(base, number, records, name):
    """Records of one user, as the service leaves them; a name has its number in it."""
    home = base / "volume" / "schedules" / hashlib.sha256(user(number).encode()).hexdigest()[:16]
    text = '{"a": 1, "user_id": "%s"}' % user(number)
    for first in range(0, records, EACH):
        directory = home / f"{first:07}"
        directory.mkdir(parents=True)
        for record in range(min(EACH, records - first)):
            (directory / (name % record)).write_text(text)
    subprocess.run(["chown", "-R", f"{SERVICE_UID}:{SERVICE_UID}", base / "volume"], check=True)


def slabs():
    """What the kernel has for names and inodes, and all else of that kind, in KiB."""
    return int(re.search(r"^Slab:\s+(\d+)", Path("/proc/meminfo").read_text(), re.MULTILINE)[1])


def settled(daemon):
    """The daemon's memory when nothing changes it any more, and the kernel's."""
    last = 0
    for _ in range(60):
        now = daemon.status("VmRSS")
        if abs(now - last) < 256:
            break
        last = now
        time.sleep(2)
    return daemon.status("VmRSS"), slabs()


def hold(daemon, number, name):
    uid = FIRST_UID + number
    command = ["prlimit", "--nofile=500000:500000", "setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"]
    command += ["env", "-C", daemon.places / str(uid), "/usr/bin/python3", "-c", HOLD, str(EACH), name]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def measure(daemon, number, name):
    daemon.ask({"login": {"key": key(number), "uid": FIRST_UID + number}})
    before = settled(daemon)
    holder = hold(daemon, number, name)
    count, met = holder.stdout.readline().split()
    at_bound = settled(daemon)
    holder.communicate("\n")
    time.sleep(5)
    after = settled(daemon)
    more = [bound - start for bound, start in zip(at_bound, before)]
    length = len(name % 0)
    print(
        f"names of {length:3} bytes: {count} inodes, then {met}; the daemon {before[0] >> 10} MiB before, {at_bound[0] >> 10} MiB then: "
        f"{more[0] >> 10} MiB more, {more[0] * 1024 // int(count)} bytes each; the kernel {more[1] >> 10} MiB more, "
        f"{more[1] * 1024 // int(count)} bytes each; the daemon {after[0] >> 10} MiB when they are closed",
        flush=True,
    )
    daemon.ask({"logout": {"uid": FIRST_UID + number}})
    print(f"                     {settled(daemon)[0] >> 10} MiB when the session is over", flush=True)


def main(arguments):
    parser = argparse.ArgumentParser(prog="scripts/bench inodes", description="Memory of one user at the bound of inodes.")
    parser.add_argument("--records", type=int, default=270_000, help="more than the bound")
    args = parser.parse_args(arguments)
    subprocess.run(["cargo", "build", "--release", "--locked", "--quiet"], cwd=ROOT, check=True)
    binary = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release" / "tenantfs"
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("scripts/bench: terminated"))
    with tempfile.TemporaryDirectory(prefix="tenantfs-bench-", dir="/var/tmp") as base, contextlib.ExitStack() as stack:
        os.chmod(base, 0o755)
        names = ["%04d.json", "x" * 246 + "%04d.json"]
        daemon = Daemon(Path(base), len(names), binary)
        stack.callback(daemon.end)
        for number, name in enumerate(names):
            plant(Path(base), number, args.records, name)
            measure(daemon, number, name)
