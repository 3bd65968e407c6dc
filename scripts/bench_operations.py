"""What `scripts/bench` times: each group works on one target, and yields operations with what bench_client says of them.

    stat         lstat of every record, cold (a fresh mount, and nothing in the kernel's caches) and again, warm: some
                 milliseconds, and so the median of several times
    read         open, read and close of every record, cold and warm
    ls           `ls -lU` of them, cold and warm
    ls-large     the same of ten times as many, in the first repetition only: it takes as long as the rest
    write        create, write, close; the same with fsync before the close, and of names that were just removed; truncate and
                 write; write beside and rename over
    tree         `grep -r`, `rsync -a` to a native directory, and `tar`, each of a fresh mount
    attachment   a large file: through from its beginning, and 4 KiB at random places; written likewise
    mixed        8 processes at once: half of what they do is reading, a quarter stat, a quarter writing

What a target answers is looked at: one that shows less than everything is not fast, it fails.
"""

import shutil
from dataclasses import dataclass

from bench_targets import Failed

# The smallest that a record can be.
RECORD_BYTES = 900


@dataclass
class Sizes:
    """How much of everything there is."""

    records: int
    attachment: int = 1 << 30
    processes: int = 8
    random: int = 5000
    mixed: int = 1000

    @property
    def large(self):
        return self.records * 10

    @property
    def written(self):
        return max(1, self.records // 20)


def expect(target, report, least, what):
    if report["found"] < least:
        raise Failed(f"{target.name} shows {report['found']} {what}, not {least}")
    return report


def run(target, resource, *command):
    return target.client(resource, "run", *command)


def remove_written(target):
    """What a view keeps of what was removed goes too: the next names are new ones for every target."""
    run(target, "results", "sh", "-c", "rm -f new* written.bin")
    for waiting in target.backing("results").glob(".tenantfs-removed-*"):
        waiting.unlink()


def stat(target, sizes):
    target.cold()
    for state, times in (("cold", 1), ("warm", 9)):
        reports = [target.client("schedules", "stat", sizes.records) for _ in range(times)]
        report = sorted(reports, key=lambda report: report["total"])[times // 2]
        yield f"stat, {state}", expect(target, report, sizes.records * RECORD_BYTES, "bytes")


def read(target, sizes):
    target.cold()
    for state in ("cold", "warm"):
        report = target.client("schedules", "read", sizes.records)
        yield f"open, read, close, {state}", expect(target, report, sizes.records * RECORD_BYTES, "bytes")


def listing(resource, count):
    def group(target, sizes):
        if target.most_files is not None and target.most_files < count(sizes):
            return
        target.cold()
        for state in ("cold", "warm"):
            # One line more has the total.
            report = expect(target, run(target, resource, "ls", "-lU"), count(sizes) + 1, "lines")
            yield f"ls -lU of {count(sizes):,}, {state}", report

    return group


def write(target, sizes):
    target.cold()
    yield "create", target.client("results", "create", sizes.written)
    yield "truncate, write", target.client("results", "truncate", sizes.written)
    yield "write, rename over", target.client("results", "replace", sizes.written)
    run(target, "results", "sh", "-c", "rm -f new*")
    yield "create, after rm", target.client("results", "create", sizes.written)
    remove_written(target)
    yield "create, fsync", target.client("results", "create", sizes.written, "--fsync")
    remove_written(target)


def tree(target, sizes):
    target.cold()
    pattern = f'"number": {sizes.records // 2},'
    yield "grep -r", expect(target, run(target, "schedules", "grep", "-rlF", pattern, "."), 1, "matches")

    copies = target.volume.parent / "copies"
    copies.mkdir()
    shutil.chown(copies, target.uid, target.uid)
    target.cold()
    report = run(target, "schedules", "rsync", "-a", "./", copies)
    copied = sum(1 for _ in copies.iterdir())
    shutil.rmtree(copies)
    yield "rsync -a", expect(target, {**report, "found": copied}, sizes.records, "copies")

    target.cold()
    # Into a pipe: GNU tar reads nothing for /dev/null.
    report = run(target, "schedules", "sh", "-c", "tar -cf - . | wc -c")
    yield "tar", expect(target, {**report, "found": int(report["output"])}, sizes.records * RECORD_BYTES, "bytes")


def attachment(target, sizes):
    target.cold()
    for state in ("cold", "warm"):
        report = target.client("results", "read-through", "attachment.bin")
        yield f"sequential read, {state}", expect(target, report, sizes.attachment, "bytes")
    target.cold()
    yield "random read, cold", target.client("results", "read-random", "attachment.bin", sizes.random)
    target.client("results", "read-through", "attachment.bin")
    yield "random read, warm", target.client("results", "read-random", "attachment.bin", sizes.random)
    yield "random write, fsync", target.client("results", "write-random", "attachment.bin", sizes.random)
    target.cold()
    yield "sequential write", target.client("results", "write-through", "written.bin", sizes.attachment)
    remove_written(target)
    target.cold()
    yield "sequential write, fsync", target.client("results", "write-through", "written.bin", sizes.attachment, "--fsync")
    remove_written(target)


def mixed(target, sizes):
    target.cold()
    arguments = [sizes.processes, sizes.mixed, sizes.records, target.directory("results")]
    yield f"mixed, {sizes.processes} processes", target.client("schedules", "mixed", *arguments)
    remove_written(target)


GROUPS = {
    "stat": stat,
    "read": read,
    "ls": listing("schedules", lambda sizes: sizes.records),
    "ls-large": listing("archive", lambda sizes: sizes.large),
    "write": write,
    "tree": tree,
    "attachment": attachment,
    "mixed": mixed,
}
ONCE = ("ls-large",)
