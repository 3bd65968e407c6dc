"""pjdfstest: what POSIX says of each system call, test by test

The crate, with its second file system, as a plain user: what only root can do is skipped, on either side. Each run is
traced: a test that failed counts as refused if the last link, node or owner that it asked for was refused.
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
# A test of how many links a file may have is skipped where the C library knows no limit: it knows none of FUSE.
NO_LINKS = "Cannot get value for LINK_MAX"

# What the README says is refused, by test.
REFUSED_BY = {
    "symlink": """
        chmod::change_perm::{dir,regular} chmod::eloop_comp chmod::eloop_final_comp chmod::enoent_symlink
        chown::eloop_comp chown::eloop_final_comp chown::enoent_symlink chown::lchown::eloop_comp
        link::eexist_dest_exists::symlink link::eloop_comp mkdir::eexist_file_exists::symlink mkdir::eloop_comp
        mkfifo::eexist_file_exists::symlink mkfifo::eloop_comp mknod::eexist_file_exists::symlink mknod::eloop_comp
        open::eexist_file_exists::symlink open::eloop_comp open::open_nofollow rename::changed_ctime_success::symlink
        rename::eexist_enotempty_to_non_empty::symlink rename::eisdir_to_dir_from_not_dir::symlink rename::eloop_comp
        rename::preserve_metadata_symlink rmdir::eexist_enotempty_non_empty_dir::symlink rmdir::eloop_comp
        symlink::changed_parent_time_success symlink::create_symlink::{dir,regular} symlink::create_symlink_to_symlink
        symlink::eexist_file_exists::symlink truncate::eloop_comp unlink::eloop_comp unlink::remove_type::symlink
        unlink::update_mtime_ctime_success_folder::symlink utimensat::follow_symlink
    """,
    "link": """
        link::changed_ctime_success::regular link::link_count_max link::remove_link::regular
        rename::preserve_metadata::regular rename::to_multiply_linked::regular unlink::update_ctime_success::regular
    """,
    "mknod": """
        chmod::change_perm::{fifo,socket} chmod::enotdir_component::{fifo,socket} chmod::update_ctime::{fifo,socket}
        chown::enotdir_component::{fifo,socket} chown::lchown::enotdir_component::{fifo,socket}
        link::changed_ctime_success::{fifo,socket} link::eexist_dest_exists::{fifo,socket}
        link::enotdir_component_either::{fifo,socket} link::remove_link::{fifo,socket}
        mkdir::eexist_file_exists::{fifo,socket} mkdir::enotdir_component::{fifo,socket}
        mkfifo::changed_time_fields_success mkfifo::eexist_file_exists::{fifo,socket}
        mkfifo::enotdir_component::{fifo,socket} mkfifo::permission_bits_from_mode mknod::changed_time_fields_success
        mknod::eexist_file_exists::{fifo,socket} mknod::enotdir_component::{fifo,socket}
        mknod::permission_bits_from_mode open::eexist_file_exists::{fifo,socket} open::fifo_nonblock_wronly
        open::socket_error rename::changed_ctime_success::{fifo,socket}
        rename::eexist_enotempty_to_non_empty::{fifo,socket} rename::eisdir_to_dir_from_not_dir::{fifo,socket}
        rename::enotdir_component_either::{fifo,socket} rename::enotdir_from_dir_to_not_dir::{fifo,socket}
        rename::preserve_metadata::{fifo,socket} rename::to_multiply_linked::{fifo,socket}
        rmdir::eexist_enotempty_non_empty_dir::{fifo,socket} rmdir::enotdir_component::{fifo,socket}
        symlink::create_symlink::fifo symlink::eexist_file_exists::{fifo,socket}
        symlink::enotdir_component::{fifo,socket} truncate::enotdir_component::{fifo,socket}
        unlink::enotdir_component::{fifo,socket} unlink::remove_type::{fifo,socket}
        unlink::update_ctime_success::{fifo,socket} unlink::update_mtime_ctime_success_folder::{fifo,socket}
        utimensat::changes_timestamps::{fifo,socket}
    """,
}


def _expand(pattern):
    """`a::{b,c}` are `a::b` and `a::c`."""
    head, _, names = pattern.partition("{")
    return [head + name for name in names.removesuffix("}").split(",")]


REFUSED = {test: refusal for refusal, patterns in REFUSED_BY.items() for text in patterns.split() for test in _expand(text)}


def run(place, quick):
    """All tests: they take seconds."""
    config = place.base / "pjdfstest.toml"
    config.write_text(CONFIG % place.elsewhere)
    trace = place.elsewhere / f"trace-{place.name}"
    calls = ",".join([*REFUSALS, "write"])
    strace = ["strace", "-f", "-s", "120", "-e", "signal=none", "-e", f"trace={calls}", "-o", trace]
    _, said = place.run("env", "RUST_BACKTRACE=0", *strace, place.base / "pjdfstest", "-c", config, "-p", place.directory)
    outcomes = {}
    reasons = _refusals(trace.read_text(errors="replace"))
    for line, following in zip(said.splitlines(), [*said.splitlines()[1:], ""]):
        if ended := re.fullmatch(r"(\S+)\s+(ok|skipped|FAILED)", line):
            test, how = ended.groups()
            outcome = {"ok": "passed", "skipped": "skipped", "FAILED": "failed"}[how]
            why = "link" if NO_LINKS in following else reasons.get(test) or following.strip()
            outcomes[test] = Outcome(outcome, why)
    if f"{len(outcomes)} total" not in said:
        raise SystemExit(f"pjdfstest on {place.name} did not come to its end: {said[-1000:]}")
    return outcomes


def _refusals(trace):
    """By test that failed: what was refused to it at last, if it got none of these after that."""
    reasons, last = {}, None
    for line in trace.splitlines():
        call = line.split(" ", 1)[-1].lstrip()
        if ended := re.match(r'write\(1, "(\S+) +(ok|FAILED|skipped)', call):
            if ended[2] == "FAILED" and last:
                reasons[ended[1]] = last
            last = None
        elif answered := re.search(r"^(\w+)\(.*\) += (.*)", call):
            last = REFUSALS.get(answered[1]) if answered[2].startswith("-1 EPERM") else None
    return reasons


def rows(native, mounted):
    return [(f"{len(native | mounted)} tests", _counts(native), _counts(mounted))]


def _counts(outcomes):
    count = [[found.outcome for found in outcomes.values()].count(what) for what in ("passed", "skipped", "failed")]
    return "{} passed, {} skipped, {} failed".format(*count)
