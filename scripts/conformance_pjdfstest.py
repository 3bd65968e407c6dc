"""pjdfstest: what POSIX says of each system call, test by test

The crate, with its second file system, as a plain user: what only root can do is skipped, on either side. Each run is
traced: a test that failed counts as refused if the last system call that failed in it is one that the mount refuses.
"""

import re

from conformance_outcome import Outcome

CRATES = [("pjdfstest", "0.2.2")]
PACKAGES = ["strace"]

CONFIG = """
[features]
posix_fallocate = {}
rename_ctime = {}
utime_now = {}
utimensat = {}
secondary_fs = "%s"

[settings]
naptime = 0.01

[dummy_auth]
entries = [["nobody", "nogroup"], ["daemon", "daemon"]]
"""

# By system call as strace names it: what is refused. A socket's name is a node, made by bind.
REFUSALS = {
    "symlink": "symlink",
    "symlinkat": "symlink",
    "link": "link",
    "linkat": "link",
    "mknod": "mknod",
    "mknodat": "mknod",
    "bind": "mknod",
    "chown": "chown",
    "lchown": "chown",
    "fchownat": "chown",
}
# Other calls are traced too: one that fails after a refusal makes the test no longer one that only met the refusal.
TRACED = [*REFUSALS, "chmod", "fchmodat", "open", "openat", "rename", "renameat", "renameat2", "unlink", "unlinkat", "mkdir"]
TRACED += ["mkdirat", "rmdir", "truncate", "ftruncate", "utimensat", "fallocate", "write"]

# What the README says is refused, by test.
REFUSED_BY = {
}


def _expand(pattern):
    head, _, rest = pattern.partition("{")
    names, _, tail = rest.partition("}")
    return [head + name + tail for name in names.split(",")]


REFUSED = {test: refusal for refusal, patterns in REFUSED_BY.items() for text in patterns.split() for test in _expand(text)}


def run(place, quick):
    """All tests: they take seconds."""
    config = place.base / "pjdfstest.toml"
    config.write_text(CONFIG % place.elsewhere)
    trace = place.elsewhere / f"trace-{place.name}"
    strace = ["strace", "-f", "-s", "120", "-e", "signal=none", "-e", f"trace={','.join(TRACED)}", "-o", trace]
    _, said = place.run("env", "RUST_BACKTRACE=0", *strace, place.base / "pjdfstest", "-c", config, "-p", place.directory)
    outcomes = {}
    reasons = _refusals(trace.read_text(errors="replace"))
    for line, following in zip(said.splitlines(), [*said.splitlines()[1:], ""]):
        if ended := re.fullmatch(r"(\S+)\s+(ok|skipped|FAILED)", line):
            test, how = ended.groups()
            outcome = {"ok": "passed", "skipped": "skipped", "FAILED": "failed"}[how]
            why = reasons.get(test) or following.strip()
            outcomes[test] = Outcome(outcome, why if outcome == "failed" else "")
    if f"{len(outcomes)} total" not in said:
        raise SystemExit(f"pjdfstest on {place.name} did not come to its end: {said[-1000:]}")
    return outcomes


def _refusals(trace):
    """By test that failed: what was refused to it at last, if that was the last thing that failed."""
    reasons, last = {}, None
    for line in trace.splitlines():
        call = line.split(" ", 1)[-1].lstrip()
        if ended := re.match(r'write\(1, "(\S+) +(ok|FAILED|skipped)', call):
            if ended[2] == "FAILED" and last:
                reasons[ended[1]] = last
            last = None
        elif failed := re.search(r"^(\w+)\(.*\) = -1 (\w+)", call):
            last = REFUSALS.get(failed[1]) if failed[2] == "EPERM" else None
    return reasons


def rows(native, mounted):
    return [(f"{len(native | mounted)} tests", _counts(native), _counts(mounted))]


def _counts(outcomes):
    count = [[found.outcome for found in outcomes.values()].count(what) for what in ("passed", "skipped", "failed")]
    return "{} passed, {} skipped, {} failed".format(*count)
