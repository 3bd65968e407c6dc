"""What systemd does for tenantfs.service, as far as the service can tell: the control socket, the notify socket with its
descriptor store, the watchdog's environment, and starting it again when it was killed.

    fake_systemd.py CONTROL_SOCKET COMMAND...

Prints a line for each thing that happens: `started PID`, `notified READY=1`, `stored NAME`, `removed NAME`, `exited STATUS`. On
SIGTERM it stops the service, and ends. A service that exits with success, or with 2, is not started again.
"""

import array
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time

FIRST = 3

# RestartPreventExitStatus= of the unit.
PREVENTED = 2


def say(*words):
    print(*words, flush=True)


class Service:
    def __init__(self, control, command):
        self.command, self.store = command, {}
        self.control = socket.socket(socket.AF_UNIX)
        self.control.bind(control)
        os.chmod(control, 0o666)
        self.control.listen(64)
        self.directory = tempfile.TemporaryDirectory()
        os.chmod(self.directory.name, 0o755)
        path = self.directory.name + "/notify"
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notify.bind(path)
        os.chmod(path, 0o666)
        self.environment = {**os.environ, "NOTIFY_SOCKET": path, "WATCHDOG_USEC": "300000"}
        self.process = None

    def start(self):
        passed = [("control", self.control.fileno()), *self.store.items()]
        environment = {
            **self.environment,
            "LISTEN_FDS": str(len(passed)),
            "LISTEN_FDNAMES": ":".join(name for name, _ in passed),
        }
        # Out of the way of the numbers that they are to have.
        high = [os.dup(descriptor) for _, descriptor in passed]
        while any(descriptor < FIRST + len(passed) for descriptor in high):
            high = [os.dup(descriptor) for descriptor in high]

        def arrange():
            for number, descriptor in enumerate(high):
                os.dup2(descriptor, FIRST + number)

        script = ["sh", "-c", 'LISTEN_PID=$$ exec "$@"', "sh", *self.command]
        self.process = subprocess.Popen(script, preexec_fn=arrange, close_fds=False, env=environment)
        for descriptor in high:
            os.close(descriptor)
        say("started", self.process.pid)

    def notified(self):
        message, ancillary, _, _ = self.notify.recvmsg(65536, socket.CMSG_SPACE(64 * 4))
        descriptors = array.array("i")
        for level, kind, data in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                descriptors.frombytes(data[: len(data) - len(data) % descriptors.itemsize])
        states = dict(line.split("=", 1) for line in message.decode().splitlines())
        name = states.pop("FDNAME", "stored")
        if states.pop("FDSTOREREMOVE", None) and name in self.store:
            os.close(self.store.pop(name))
            say("removed", name)
        if states.pop("FDSTORE", None):
            [self.store[name]] = descriptors
            say("stored", name)
        for state in states.items():
            say("notified", "=".join(state))

    def run(self):
        self.start()
        stopping = False

        def stop(*_):
            nonlocal stopping
            stopping = True
            self.process.terminate()

        signal.signal(signal.SIGTERM, stop)
        while True:
            readable, _, _ = select.select([self.notify], [], [], 0.02)
            if readable:
                self.notified()
                continue
            status = self.process.poll()
            if status is None:
                continue
            say("exited", status)
            if stopping or status in (0, PREVENTED):
                return
            time.sleep(0.2)
            self.start()


Service(sys.argv[1], sys.argv[2:]).run()
