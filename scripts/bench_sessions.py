"""`scripts/bench sessions`: very many users of one daemon, on this machine.

    scripts/bench sessions [--sessions N] [--seconds N]

Prints the time per login and logout, the memory of an idle session (of the daemon, and of the kernel for its threads),
the CPU that idle sessions take, and how long one user's reads take alone and while another user floods. Needs root.
"""

import argparse
import contextlib
import hashlib
import json
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SERVICE_UID, FIRST_UID = 61000, 70000

# Run as one user, in its view: opens, reads and closes a record, and prints how long each time took.
READ = """
import os, sys, time
end, times = time.monotonic() + float(sys.argv[1]), []
while time.monotonic() < end:
    start = time.monotonic()
    with open('schedules/read.json', 'rb') as file:
        assert file.read() == b'{"a": 1}\\n'
    times.append(time.monotonic() - start)
    time.sleep(0.001)
print(*times)
"""

# Run as another user: as much of everything as it can.
FLOOD = """
import os, sys, time
end = time.monotonic() + float(sys.argv[1])
for number in range(4):
    if os.fork() == 0:
        count = 0
        while time.monotonic() < end:
            count += 1
            name = f'schedules/flood-{number}-{count % 50}.json'
            with open(name, 'w') as file:
                file.write('{"a": "' + 'x' * 4000 + '"}')
            os.listdir('schedules')
        os._exit(0)
for number in range(4):
    os.wait()
"""


def user(number):
    return f"user-{number}"


def key(number):
    return f"key-of-user-{number}"


class Daemon:
    """A daemon with a volume and static keys of its own, in `base`."""

    def __init__(self, base, sessions, binary):
        self.socket = base / "run" / "control.sock"
        self.places = base / "mnt"
        volume, keys = base / "volume", base / "keys.json"
        volume.mkdir()
        os.chown(volume, SERVICE_UID, SERVICE_UID)
        volume.chmod(0o750)
        entries = [
            {"sha256": hashlib.sha256(key(number).encode()).hexdigest(), "user_id": user(number)}
            for number in range(sessions)
        ]
        keys.write_text(json.dumps({"keys": entries}))
        options = ["--volume", volume, "--static-keys", keys, "--lease", "60s", "--socket", self.socket]
        self.log = open(base / "log", "w+")
        self.process = subprocess.Popen(
            [binary, "daemon", *options, "--mounts", f"{self.places}/{{uid}}"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self.log,
        )
        deadline = time.monotonic() + 10
        while not self.socket.exists():
            if time.monotonic() > deadline or self.process.poll() is not None:
                self.end()
                sys.exit(f"scripts/bench: the daemon does not listen: {Path(self.log.name).read_text()}")
            time.sleep(0.01)

    def ask(self, request):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(self.socket))
            connection.sendall(json.dumps(request).encode() + b"\n")
            connection.shutdown(socket.SHUT_WR)
            answer = b"".join(iter(lambda: connection.recv(1 << 20), b""))
        reply = json.loads(answer)
        if "error" in reply:
            sys.exit(f"scripts/bench: {request}: {reply['error']['message']}")
        return reply

    def status(self, field):
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(rf"^{field}:\s+(\d+)", text, re.MULTILINE)[1])

    def cpu(self):
        """Seconds of CPU time so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def end(self):
        self.process.terminate()
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def kernel_stacks():
    """What the kernel has for all threads there are, in KiB."""
    return int(re.search(r"^KernelStack:\s+(\d+)", Path("/proc/meminfo").read_text(), re.MULTILINE)[1])


def quantiles(times):
    """Median, 99th percentile and maximum, in milliseconds."""
    ordered = sorted(times)
    p99 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
    return f"p50 {statistics.median(ordered) * 1e3:.2f} ms, p99 {p99 * 1e3:.2f} ms, max {ordered[-1] * 1e3:.2f} ms"


def timed(work, numbers):
    times = []
    for number in numbers:
        start = time.monotonic()
        work(number)
        times.append(time.monotonic() - start)
    return times


def in_view(daemon, number, code, seconds):
    uid = FIRST_UID + number
    command = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "env", "-C", daemon.places / str(uid)]
    command += ["/usr/bin/python3", "-c", code, str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def reads(daemon, seconds):
    output, _ = in_view(daemon, 0, READ, seconds).communicate()
    return [float(time) for time in output.split()]


def measure(daemon, sessions, seconds):
    memory, threads, stacks = daemon.status("VmRSS"), daemon.status("Threads"), kernel_stacks()
    login = {number: {"login": {"key": key(number), "uid": FIRST_UID + number}} for number in range(sessions)}
    logins = timed(lambda number: daemon.ask(login[number]), range(sessions))
    print(f"login            {quantiles(logins)}; the last hundred {quantiles(logins[-100:])}")

    memory, threads = daemon.status("VmRSS") - memory, daemon.status("Threads") - threads
    own, kernels = memory / sessions, (kernel_stacks() - stacks) / sessions
    print(f"idle session     {own:.0f} KiB of the daemon, {kernels:.0f} KiB of the kernel for {threads / sessions:.1f} threads")

    time.sleep(1)
    before = daemon.cpu()
    time.sleep(10)
    print(f"idle CPU         {(daemon.cpu() - before) * 10:.2f} % of a core, for {sessions} sessions with leases of 60 s")

    prepare = "open('schedules/read.json', 'w').write('{\"a\": 1}\\n')"
    in_view(daemon, 0, prepare, 0).communicate()
    print(f"read, alone      {quantiles(reads(daemon, seconds))}")
    flood = in_view(daemon, 1, FLOOD, seconds + 1)
    time.sleep(0.5)
    print(f"read, in a flood {quantiles(reads(daemon, seconds))}")
    flood.communicate()

    logout = {number: {"logout": {"uid": FIRST_UID + number}} for number in range(sessions)}
    logouts = timed(lambda number: daemon.ask(logout[number]), range(sessions))
    print(f"logout           {quantiles(logouts)}")


def main(arguments):
    parser = argparse.ArgumentParser(prog="scripts/bench sessions", description="Very many users of one daemon.")
    parser.add_argument("--sessions", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=10, help="how long one user reads")
    args = parser.parse_args(arguments)
    subprocess.run(["cargo", "build", "--release", "--locked", "--quiet"], cwd=ROOT, check=True)
    binary = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release" / "tenantfs"
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("scripts/bench: terminated"))
    with tempfile.TemporaryDirectory(prefix="tenantfs-bench-", dir="/var/tmp") as base, contextlib.ExitStack() as stack:
        os.chmod(base, 0o755)
        daemon = Daemon(Path(base), args.sessions, binary)
        stack.callback(daemon.end)
        measure(daemon, args.sessions, args.seconds)
