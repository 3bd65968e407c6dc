"""stress-ng: 44 stressors that work on files

stress-ng's class of file systems, without those that have no file in the directory under test: `bind-mount` and `binderfs`
mount others, `eventfd` has none at all, and `procfs` reads /proc. Each runs for a while and verifies what it did.
"""

import re

from conformance_outcome import Outcome

CRATES = []
PACKAGES = ["stress-ng"]

# What the README says is refused, by stressor; and how each says that it cannot do without.
REFUSED = {"link": "link", "symlink": "symlink", "xattr": "extended attributes", "fiemap": "ioctl"}
SAYING = {
    "] link: link calls not allowed": "link",
    "] symlink: link calls not allowed": "symlink",
    "does not support xattr": "extended attributes",
    "FS_IOC_FIEMAP not supported": "ioctl",
}

SECONDS, QUICK = 2, 1
ELSEWHERE = {"bind-mount", "binderfs", "eventfd", "procfs"}
COUNT = 44

# stress-ng's exit codes: its stressor failed; there was not enough of something; the system cannot do it.
OUTCOMES = {0: "passed", 2: "failed", 3: "skipped", 4: "skipped"}


def run(place, quick):
    _, said = place.run("stress-ng", "--class", "filesystem?")
    stressors = sorted(set(said.rpartition(":")[2].split()) - ELSEWHERE)
    if len(stressors) != COUNT:
        raise SystemExit(f"stress-ng has {len(stressors)} file stressors, not {COUNT}: {' '.join(stressors)}")
    outcomes = {}
    for stressor in stressors:
        bounded = ["--timeout", str(QUICK if quick else SECONDS), "--verify", "--oomable"]
        code, said = place.run("stress-ng", "--temp-path", place.directory, f"--{stressor}", "1", *bounded, timeout=120)
        refused = [refusal for words, refusal in SAYING.items() if words in said]
        failures = re.findall(r"fail: +\[\d+\] (.*)", said)
        outcome = OUTCOMES.get(code, "failed")
        # It ends with 0 also when a stressor declined to run.
        if outcome == "passed" and re.search(r"skipp(ed|ing)", said):
            outcome = "skipped"
        outcomes[stressor] = Outcome(outcome, " ".join(refused or failures[:3]) or f"exit code {code}")
    return outcomes


def rows(native, mounted):
    return [(stressor, native[stressor].outcome, mounted[stressor].outcome) for stressor in native]
