"""What `scripts/bench` compares: each target is a way to one user's directories, mounted as its makers advise.

    native          the volume's own directories, as the service that owns them
    bindfs          alice as the owner of all; its other options as they are: one thread, for its manual warns of a race with more
    passthrough_hp  with its default caches, which hold for a day (nobody else may change the source); it lets in only who mounted
                    it, so root it is. It holds a descriptor for each file: where there cannot be so many, it is left out
    mergerfs        one branch; allow_other, use_ino as its manual suggests, its caches as they are; works as the caller, the service
    gocryptfs       allow_other, encrypted names, a cheap key derivation (of the mount only); alice's data copied through it, and hers
    tenantfs        alice's view, with `--commit fsync`: a close promises what it does elsewhere
    tenantfs-close  the same as it is by default: after a close the record is on the disk. Only for operations that write
"""

import hashlib
import json
import os
import resource as limits
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import bench_passthrough
from service import RecordService

ROOT = Path(__file__).resolve().parent.parent
RELEASE = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release"
SERVICE_UID, ALICE_UID = 61000, 61001
API_KEY = "key-of-the-benchmark-0123456789"
RESOURCES = ("schedules", "results", "archive")


class Failed(Exception):
    """A target does not do what is timed."""


def is_mounted(path):
    """Asked of the kernel: nobody but its user can look at a mount, root neither."""
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    return any(line.split(" ")[4] == str(path) for line in mounts)


class Native:
    name = "native"
    uid = SERVICE_UID
    only_writes = False
    most_files = None

    def __init__(self, volume, base):
        self.volume, self.base = volume, base

    def backing(self, resource):
        return RecordService(self.volume).directory("alice", resource)

    def directory(self, resource):
        return self.backing(resource)

    def prepare(self):
        """Once, before anything is timed."""

    def start(self):
        """Nothing to start."""

    def end(self):
        """Nothing to end."""

    def cold(self):
        """Nothing of it is in any cache."""
        self.end()
        subprocess.run(["sync", "--file-system", self.volume], check=True)
        Path("/proc/sys/vm/drop_caches").write_text("3\n")
        self.start()

    def client(self, resource, *command):
        """What bench_client prints about one operation in a directory of the target, as the user it is for."""
        done = self.popen(resource, *command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        output, errors = done.communicate(timeout=900)
        if done.returncode != 0:
            raise Failed(f"{self.name}: {' '.join(map(str, command))}: {errors.strip()}")
        return json.loads(output)

    def popen(self, resource, *command, **options):
        user = ["setpriv", f"--reuid={self.uid}", f"--regid={self.uid}", "--clear-groups", "env", "-C", self.directory(resource)]
        return subprocess.Popen([*user, self.base / "bench_client", *map(str, command)], **options)

    def version(self):
        return None


class Mounted(Native):
    """A view by a process that serves it in the foreground until it is terminated."""

    uid = ALICE_UID

    def __init__(self, volume, base):
        super().__init__(volume, base)
        self.mountpoint = Path(tempfile.mkdtemp(prefix="mnt-", dir=base))
        self.mountpoint.chmod(0o755)
        self.log = self.mountpoint.with_suffix(".log")
        self.process = None

    def directory(self, resource):
        return self.mountpoint / self.backing(resource).relative_to(self.volume)

    def command(self):
        raise NotImplementedError

    def prepare(self):
        program = self.command()[0]
        if not shutil.which(program):
            raise Failed(f"{program} is missing: apt-get install {program}")

    def start(self):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(self.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + 20
        while not is_mounted(self.mountpoint):
            if time.monotonic() > deadline or self.process.poll() is not None:
                raise Failed(f"{self.name} did not mount: {self.log.read_text()}")
            time.sleep(0.01)

    def end(self):
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None
        if is_mounted(self.mountpoint):
            subprocess.run(["umount", "-l", self.mountpoint], check=False)

    def version(self):
        package = ["dpkg-query", "--show", "--showformat", "${Version}", self.name]
        return subprocess.run(package, stdout=subprocess.PIPE, text=True, check=False).stdout or None


class Bindfs(Mounted):
    name = "bindfs"

    def command(self):
        shown = [f"--force-user={ALICE_UID}", f"--force-group={ALICE_UID}", "--perms=u+rwX"]
        created = [f"--create-for-user={SERVICE_UID}", f"--create-for-group={SERVICE_UID}"]
        return ["bindfs", "-f", *shown, *created, self.volume, self.mountpoint]


class PassthroughHp(Mounted):
    name = "passthrough_hp"
    uid = 0

    def prepare(self):
        try:
            shutil.copy(bench_passthrough.build(), self.base / "passthrough_hp")
        except bench_passthrough.CannotBuild as error:
            raise Failed(f"passthrough_hp cannot be built: {error}") from None
        soft, hard = limits.getrlimit(limits.RLIMIT_NOFILE)
        try:
            limits.setrlimit(limits.RLIMIT_NOFILE, (soft, max(hard, 1 << 20)))
        except (OSError, ValueError):
            # Not even root may, where it lacks CAP_SYS_RESOURCE.
            self.most_files = hard - 100

    def command(self):
        return [self.base / "passthrough_hp", "--foreground", self.volume, self.mountpoint]

    def version(self):
        return bench_passthrough.version()


class Mergerfs(Mounted):
    name = "mergerfs"
    uid = SERVICE_UID

    def command(self):
        return ["mergerfs", "-f", "-o", "allow_other,use_ino", self.volume, self.mountpoint]


class Gocryptfs(Mounted):
    name = "gocryptfs"

    def __init__(self, volume, base):
        super().__init__(volume, base)
        self.encrypted, self.password = volume.parent / "encrypted", base / "password"

    def prepare(self):
        super().prepare()
        self.encrypted.mkdir()
        self.password.write_text("password of the benchmark")
        options = ["-q", "-scryptn", "10", "-passfile", self.password]
        subprocess.run(["gocryptfs", "-init", *options, self.encrypted], check=True)
        self.start()
        for resource in RESOURCES:
            self.directory(resource).parent.mkdir(parents=True)
            copy = ["cp", "-r", "--preserve=timestamps", self.backing(resource), self.directory(resource)]
            subprocess.run(copy, check=True)
        self.end()
        subprocess.run(["chown", "-R", f"{ALICE_UID}:{ALICE_UID}", self.encrypted], check=True)

    def command(self):
        return ["gocryptfs", "-fg", "-q", "-allow_other", "-passfile", self.password, self.encrypted, self.mountpoint]


class Tenantfs(Mounted):
    name = "tenantfs"
    commit = "fsync"
    program = RELEASE / "tenantfs"

    def directory(self, resource):
        return self.mountpoint / resource

    def prepare(self):
        digest = hashlib.sha256(API_KEY.encode()).hexdigest()
        keys = {"keys": [{"sha256": digest, "user_id": "alice"}]}
        for name, text in (("keys.json", json.dumps(keys)), ("api-key", API_KEY)):
            (self.base / name).write_text(text)
            (self.base / name).chmod(0o600)

    def command(self):
        keys = ["--static-keys", self.base / "keys.json", "--api-key-file", self.base / "api-key"]
        options = ["--volume", self.volume, "--resources", ",".join(RESOURCES), "--commit", self.commit, "--uid", str(ALICE_UID)]
        return [self.program, "mount", self.mountpoint, *options, "--audit-log", "none", *keys]

    def version(self):
        return None


class TenantfsClose(Tenantfs):
    name = "tenantfs-close"
    commit = "close"
    only_writes = True


def before(binary):
    """Another build of tenantfs, to be timed in turn with this one."""

    class Before(Tenantfs):
        name = "before"
        program = binary

    class BeforeClose(TenantfsClose):
        name = "before-close"
        program = binary

    return (Before, BeforeClose)


ALL = (Native, Bindfs, PassthroughHp, Mergerfs, Gocryptfs, Tenantfs, TenantfsClose)
