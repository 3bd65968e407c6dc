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

# Run as the user, in its view: keeps whatever can be had, in as many processes as it takes, says how many that is, and lets go when it
# is told.
HOLD = """
import errno, os, sys
each, name, directories = int(sys.argv[1]), sys.argv[2], sorted(os.listdir('schedules'))
release, released = os.pipe()
report, reported = os.pipe()
for first in range(0, len(directories), 4):
    if os.fork() == 0:
        os.close(released)
        held, met = [], ''
        try:
            for directory in directories[first:first + 4]:
                held.append(os.open('schedules/' + directory, os.O_PATH))
                top = held[-1]
                for number in range(each):
                    held.append(os.open(name % number, os.O_PATH, dir_fd=top))
        except OSError as error:
            met = errno.errorcode[error.errno]
        os.write(reported, b'%d %s\\n' % (len(held), met.encode()))
        os.read(release, 1)
        os._exit(0)
    # One after the other: what each has is counted before the next one asks.
    line = b''
    while not line.endswith(b'\\n'):
        line += os.read(report, 100)
    count, _, met = line.decode().strip().partition(' ')
    total = int(count) + (total if first else 0)
    bound = met or (bound if first else '')
    if met == 'ENFILE':
        break
print(total, bound or 'none', flush=True)
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
    command = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"]
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
        # It looks whether the volume can be written to, which is what is made now.
        time.sleep(2)
        for number, name in enumerate(names):
            plant(Path(base), number, args.records, name)
            measure(daemon, number, name)
