//! However an API key is written through the mount, it is found nowhere afterwards: not in the mount, the volume's files,
//! the logs, the audit log, what /proc says of the server, or temporary files.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod common;

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use common::daemon::Daemon;
use common::{ALICE, Conversation, Mount, SERVICE_UID, Volume, as_user, eventually, run, set_mode, success};
use rustix::mount::{MountFlags, UnmountFlags};
use rustix::process::{Pid, Signal, kill_process};
use tenantfs::layout::Layout;

/// An API key that is nowhere on this host but in this process and those that write it: it is made up anew each time, and
/// handed over on standard input.
struct Sentinel {
    key: String,
    began: SystemTime,
}

impl Sentinel {
    fn new() -> Self {
        let mut random = [0; 16];
        rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty()).unwrap();
        Self {
            key: format!("sk-{}", hex::encode(random)),
            began: SystemTime::now(),
        }
    }

    /// What it would be found by: each half of it, as it is and as others spell it.
    fn traces(&self) -> Vec<Vec<u8>> {
        let (first, second) = self.key.split_at(self.key.len() / 2);
        let mut traces = Vec::new();
        for part in [first, second] {
            let escaped: String = part.bytes().map(|byte| format!("\\u{byte:04x}")).collect();
            let wide: Vec<u8> = part.bytes().flat_map(|byte| [byte, 0]).collect();
            traces.extend([part.as_bytes().to_vec(), escaped.into_bytes(), wide]);
            traces.push(hex::encode(part).into_bytes());
            // Wherever it begins among groups of three bytes; the characters at the ends depend on what is beside it.
            for skipped in 0..3 {
                let whole = &part.as_bytes()[skipped..];
                let whole = &whole[..whole.len() / 3 * 3];
                traces.push(STANDARD_NO_PAD.encode(whole).into_bytes());
            }
        }
        traces
    }

    fn is_in(&self, bytes: &[u8]) -> bool {
        let traces = self.traces();
        traces
            .iter()
            .any(|trace| bytes.windows(trace.len()).any(|part| part == trace.as_slice()))
    }

    /// The files below a directory that have it, in their content, names or attributes.
    fn below(&self, directory: &Path, wanted: impl Fn(&Path) -> bool + Copy) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let path = entry.path();
            let Ok(metadata) = entry.metadata() else { continue };
            let name = entry.file_name().into_vec();
            if metadata.is_dir() {
                found.extend(self.below(&path, wanted));
            } else if metadata.is_file() && wanted(&path) && self.is_in(&fs::read(&path).unwrap_or_default())
            {
                found.push(path.clone());
            }
            if self.is_in(&name) || self.is_in(&attributes(&path)) {
                found.push(path);
            }
        }
        found
    }

    /// The volume has not a trace of it.
    fn is_not_on(&self, volume: &Volume, case: &str) {
        let found = self.below(&volume.root(), |_| true);
        assert!(found.is_empty(), "{case}: on the volume: {found:?}");
    }

    /// Nor has the mount, whoever looks there through its user's eyes.
    fn is_not_in(&self, mount: &Path, case: &str) {
        let code = "
import os, sys
traces = [bytes.fromhex(line) for line in sys.stdin.read().split()]
for place, directories, files in os.walk('.'):
    for name in directories + files:
        path = os.path.join(place, name)
        content = b'' if name in directories else open(path, 'rb').read()
        if any(trace in content or trace in name.encode() for trace in traces):
            print(path)
";
        let traces: Vec<String> = self.traces().iter().map(hex::encode).collect();
        let mut command = as_user(ALICE.uid, mount, "python3");
        command.args(["-B", "-c", code]);
        let found = success(command, &traces.join("\n"));
        assert_eq!(found, "", "{case}: in the mount");
    }

    /// Nor what /proc says of the server and of its mounter.
    fn is_not_said_of(&self, server: Pid, case: &str) {
        let children = format!("/proc/{0}/task/{0}/children", server.as_raw_nonzero());
        let children = fs::read_to_string(children).unwrap();
        let mounters = children.split_whitespace().map(str::to_owned);
        for pid in std::iter::once(server.as_raw_nonzero().to_string()).chain(mounters) {
            for file in [
                "environ",
                "cmdline",
                "comm",
                "status",
                "stat",
                "maps",
                "mountinfo",
                "stack",
            ] {
                let path = format!("/proc/{pid}/{file}");
                let said = fs::read(&path).unwrap_or_default();
                assert!(!self.is_in(&said), "{case}: in {path}");
            }
            for entry in fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten() {
                let target =
                    fs::read_link(entry.path()).map_or_else(|_| OsString::new(), PathBuf::into_os_string);
                assert!(!self.is_in(&target.into_vec()), "{case}: in a descriptor's name");
            }
        }
    }

    /// Nor the logs, nor any temporary file that was written since.
    fn is_not_left(&self, case: &str) {
        let recent = |path: &Path| {
            let metadata = path.metadata().ok();
            metadata.is_some_and(|metadata| {
                metadata.len() < 64 << 20 && metadata.modified().is_ok_and(|modified| modified >= self.began)
            })
        };
        for directory in ["/tmp", "/var/tmp", "/dev/shm", "/run"] {
            let found = self.below(Path::new(directory), recent);
            assert!(found.is_empty(), "{case}: {found:?}");
        }
    }
}

/// The extended attributes of a file, which are where the mount keeps modes.
fn attributes(path: &Path) -> Vec<u8> {
    let mut value = [0; 256];
    let len = rustix::fs::lgetxattr(path, "user.tenantfs.mode", &mut value).unwrap_or(0);
    value[..len].to_vec()
}

/// What a way of writing comes to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Outcome {
    /// A record that has the key, sealed.
    Sealed,
    /// A draft that is no record, and that its user sees; by what errno it was refused, if it was.
    Draft(&'static str),
    /// A record without it, or nothing.
    Gone,
}
use Outcome::{Draft, Gone, Sealed};

/// What each way begins with. Then `KEY` is the key, `P` the record's path, `D` its directory; `TEXT` a record that has the
/// key, in two halves `A` and `B` that are cut within it; `VIEW` what is to be seen of it.
const BEGIN: &str = r#"
import ctypes, errno, fcntl, json, mmap, os, shutil, signal, subprocess, sys, tempfile, time
KEY, P = sys.stdin.readline().strip(), sys.argv[1]
D = os.path.dirname(P)
TEXT = '{"n": 1, "api_key": "%s"}' % KEY
VIEW = '{"n": 1}'
A, B = TEXT[:45], TEXT[45:]
ESCAPED = ''.join('\\u%04x' % ord(c) for c in KEY)
def opened(flags=os.O_WRONLY | os.O_CREAT | os.O_TRUNC):
    return os.open(P, flags, 0o644)
def put(text):
    f = opened()
    os.write(f, text.encode() if isinstance(text, str) else text)
    os.close(f)
def memory(text):
    f = os.memfd_create('source')
    os.write(f, text.encode())
    os.lseek(f, 0, 0)
    return f
def piped(*command, text=None):
    subprocess.run(command, input=(TEXT if text is None else text).encode(), check=True)
def before():
    put('{"n": 0}')
try:
    exec(sys.argv[2])
except OSError as error:
    print(errno.errorcode[error.errno])
"#;

/// The ways, each with a name of its own.
const WAYS: &[(&str, Outcome, &str)] = &[
    ("at_once", Sealed, "put(TEXT)"),
    (
        "printed_nicely",
        Sealed,
        "put(json.dumps(json.loads(TEXT), indent=4) + '\\n')",
    ),
    (
        "byte_by_byte",
        Sealed,
        "f = opened(); [os.write(f, c.encode()) for c in TEXT]; os.close(f)",
    ),
    (
        "backwards",
        Sealed,
        "f = opened(); [os.pwrite(f, TEXT[i].encode(), i) for i in reversed(range(len(TEXT)))]; os.close(f)",
    ),
    (
        "overlapping",
        Sealed,
        "f = opened(); os.write(f, TEXT.encode()); os.pwrite(f, TEXT[20:40].encode(), 20); os.close(f)",
    ),
    (
        "vectored",
        Sealed,
        "f = opened(); os.writev(f, [A.encode(), B.encode()]); os.close(f)",
    ),
    (
        "with_an_escaped_value",
        Sealed,
        "put('{\"n\": 1, \"api_key\": \"%s\"}' % ESCAPED)",
    ),
    (
        "with_an_escaped_name",
        Sealed,
        "put(TEXT.replace('api_key', '\\\\u0061pi\\\\u005fkey'))",
    ),
    (
        "as_the_first_member",
        Sealed,
        "put('{\"api_key\":\"%s\",\"n\": 1}' % KEY)",
    ),
    ("as_the_only_member", Sealed, "put('{\"api_key\":\"%s\"}' % KEY)"),
    (
        "within_an_object",
        Sealed,
        "put('{\"n\": 1, \"api_key\": {\"deep\": [{\"er\": \"%s\"}]}}' % KEY)",
    ),
    (
        "within_an_array",
        Sealed,
        "put('{\"n\": 1, \"api_key\": [1, \"%s\", null]}' % KEY)",
    ),
    (
        "with_the_mark",
        Sealed,
        "put('{\"api_key\":\"%s\",\"user_id\" :\"alice\"}' % KEY)",
    ),
    (
        "as_somebody_else",
        Sealed,
        "put('{\"user_id\": \"bob\", \"api_key\": \"%s\"}' % KEY)",
    ),
    (
        "beside_a_name_in_another_case",
        Sealed,
        "put('{\"API_KEY\": 1, \"api_key\": \"%s\"}' % KEY)",
    ),
    ("over_a_record", Sealed, "before(); put(TEXT)"),
    (
        "in_place_of_another",
        Sealed,
        "put('{\"api_key\": \"another\"}'); put(TEXT)",
    ),
    (
        "appended",
        Sealed,
        "f = opened(); os.write(f, b'{\"n\": 1, \"api_key\": \"'); g = os.open(P, os.O_WRONLY | os.O_APPEND)\n\
         os.write(g, (KEY + '\"}').encode()); os.close(f); os.close(g)",
    ),
    (
        "appended_to_a_draft",
        Sealed,
        "try: put(A)\nexcept OSError: pass\nf = opened(os.O_WRONLY | os.O_APPEND); os.write(f, B.encode()); os.close(f)",
    ),
    (
        "mapped",
        Sealed,
        "f = opened(os.O_RDWR | os.O_CREAT | os.O_TRUNC); os.write(f, (VIEW + ' ' * (len(TEXT) - len(VIEW))).encode())\n\
         m = mmap.mmap(f, len(TEXT)); m[:] = TEXT.encode(); m.flush(); m.close(); os.close(f)",
    ),
    (
        "synced_halfway",
        Sealed,
        "f = opened(); os.write(f, A.encode())\ntry: os.fsync(f)\nexcept OSError: pass\nos.write(f, B.encode()); os.fsync(f); os.close(f)",
    ),
    (
        "read_back_by_the_writer",
        Sealed,
        "f = opened(os.O_RDWR | os.O_CREAT | os.O_TRUNC); os.write(f, TEXT.encode()); assert os.pread(f, 999, 0).decode() == TEXT; os.close(f)",
    ),
    (
        "by_two_descriptors",
        Sealed,
        "f = opened(); g = os.open(P, os.O_WRONLY); os.pwrite(g, B.encode(), len(A)); os.pwrite(f, A.encode(), 0)\n\
         try: os.close(g)\nexcept OSError: pass\nos.close(f)",
    ),
    (
        "allocated_before",
        Sealed,
        "f = opened(); os.posix_fallocate(f, 0, len(TEXT)); os.pwrite(f, TEXT.encode(), 0); os.close(f)",
    ),
    (
        "truncated_behind_it",
        Sealed,
        "f = opened(); os.write(f, (TEXT + KEY).encode()); os.ftruncate(f, len(TEXT)); os.close(f)",
    ),
    (
        "with_a_hole_that_is_filled",
        Sealed,
        "f = opened(); os.pwrite(f, TEXT.encode(), 9000); os.pwrite(f, b' ' * 9000, 0); os.close(f)",
    ),
    (
        "by_copy_file_range",
        Sealed,
        "s, f = memory(TEXT), opened()\ntry: os.copy_file_range(s, f, len(TEXT))\nexcept OSError: os.sendfile(f, s, 0, len(TEXT))\nos.close(f)",
    ),
    (
        "by_sendfile",
        Sealed,
        "s, f = memory(TEXT), opened(); os.sendfile(f, s, 0, len(TEXT)); os.close(f)",
    ),
    (
        "by_splice",
        Sealed,
        "r, w = os.pipe(); os.write(w, TEXT.encode()); f = opened(); os.splice(r, f, len(TEXT)); os.close(f)",
    ),
    (
        "by_shutil",
        Sealed,
        "s = memory(TEXT); shutil.copyfile('/proc/self/fd/%d' % s, P)",
    ),
    ("by_tee", Sealed, "piped('sh', '-c', 'tee \"$0\" > /dev/null', P)"),
    ("by_dd", Sealed, "piped('dd', 'of=' + P, 'bs=7', 'status=none')"),
    ("by_cp", Sealed, "piped('cp', '/dev/stdin', P)"),
    (
        "by_two_processes",
        Sealed,
        "piped('sh', '-c', '(head -c 30; cat) > \"$0\"', P)",
    ),
    (
        "by_a_shell_that_reads_it",
        Sealed,
        "piped('sh', '-c', 'read -r line; printf %s \"$line\" > \"$0\"', P, text=TEXT + '\\n')",
    ),
    (
        "by_a_file_that_is_renamed",
        Sealed,
        "open(P + '.tmp', 'w').write(TEXT); os.rename(P + '.tmp', P)",
    ),
    (
        "by_a_file_that_replaces_a_record",
        Sealed,
        "before()\nwith tempfile.NamedTemporaryFile('w', dir=D, delete=False) as t: t.write(TEXT); t.flush(); os.fsync(t.fileno())\nos.replace(t.name, P)",
    ),
    (
        "by_a_file_that_is_copied_within",
        Sealed,
        "open(P + '.txt', 'w').write(TEXT); s, f = os.open(P + '.txt', os.O_RDONLY), opened()\n\
         try: os.copy_file_range(s, f, len(TEXT))\nexcept OSError: os.sendfile(f, s, 0, len(TEXT))\nos.close(f); os.unlink(P + '.txt')",
    ),
    (
        "by_an_ides_safe_write",
        Sealed,
        "before(); open(P + '.new', 'w').write(TEXT); os.rename(P, P + '.old'); os.rename(P + '.new', P); os.unlink(P + '.old')",
    ),
    (
        "by_sed",
        Sealed,
        "before(); piped('sed', '-i', '-f', '/dev/stdin', P, text='s/\"n\": 0/\"n\": 1, \"api_key\": \"%s\"/' % KEY)",
    ),
    (
        "by_vim",
        Sealed,
        "before(); piped('vim', '-es', '-u', 'NONE', '-i', 'NONE', '-N', P, text='set backup backupdir=.\\n%%s/0/1, \"api_key\": \"%s\"/\\nwq\\n' % KEY)",
    ),
    (
        "by_jq",
        Sealed,
        "before(); piped('sh', '-c', 'jq --rawfile key /dev/stdin \".api_key = \\\\$key\" \"$0\" > \"$0.t\" && mv \"$0.t\" \"$0\"', P, text=KEY)",
    ),
    (
        "renamed_while_it_is_written",
        Sealed,
        "f = opened(); os.write(f, A.encode()); os.rename(P, P + 'x.json'); os.write(f, B.encode()); os.close(f); os.rename(P + 'x.json', P)",
    ),
    (
        "in_a_directory_that_moves",
        Sealed,
        "os.mkdir(D + '/d'); open(D + '/d/x.json', 'w').write(TEXT); os.rename(D + '/d', D + '/e'); os.rename(D + '/e/x.json', P); os.rmdir(D + '/e')",
    ),
    (
        "and_kept_when_the_record_is_truncated",
        Sealed,
        "put(TEXT); put(VIEW)",
    ),
    (
        "and_kept_when_an_editor_moves_the_record_away",
        Sealed,
        "put(TEXT); os.rename(P, P + '~'); put(VIEW); os.unlink(P + '~')",
    ),
    (
        "and_removed_by_null",
        Gone,
        "put(TEXT); put('{\"api_key\": null}')",
    ),
    ("and_the_record_removed", Gone, "put(TEXT); os.unlink(P)"),
    (
        "and_the_record_removed_while_it_is_open",
        Gone,
        "f = opened(); os.write(f, TEXT.encode()); os.unlink(P); os.close(f)",
    ),
    (
        "and_the_record_moved_away",
        Gone,
        "put(TEXT); os.rename(P, P + '.txt')",
    ),
    (
        "in_a_draft_that_is_removed",
        Gone,
        "try: put(A)\nexcept OSError: os.unlink(P)",
    ),
    (
        "in_a_draft_that_is_started_over",
        Gone,
        "try: put(A)\nexcept OSError: put(VIEW)",
    ),
    ("in_a_draft_without_an_end", Draft("EINVAL"), "put(TEXT[:-1])"),
    ("in_a_draft_cut_within_it", Draft("EINVAL"), "put(A)"),
    ("in_a_draft_without_a_beginning", Draft("EINVAL"), "put(TEXT[1:])"),
    ("alone", Draft("EINVAL"), "put(KEY + '\\n')"),
    (
        "in_a_draft_that_is_no_json",
        Draft("EINVAL"),
        "put('api_key = ' + KEY)",
    ),
    (
        "in_a_draft_that_is_an_array",
        Draft("EINVAL"),
        "put('[' + TEXT + ']')",
    ),
    (
        "in_a_draft_that_is_not_utf8",
        Draft("EINVAL"),
        "put(TEXT[:-1].encode() + b', \"x\": \"\\xff\"}')",
    ),
    (
        "in_a_draft_with_a_byte_order_mark",
        Draft("EINVAL"),
        "put('\\ufeff' + TEXT)",
    ),
    ("in_utf16", Draft("EINVAL"), "put(TEXT.encode('utf-16-le'))"),
    (
        "twice",
        Draft("EINVAL"),
        "put('{\"api_key\": \"%s\", \"api_key\": \"%s\"}' % (KEY, KEY))",
    ),
    (
        "twice_by_an_escaped_name",
        Draft("EINVAL"),
        "put('{\"api_key\": \"%s\", \"api\\\\u005fkey\": \"%s\"}' % (KEY, KEY))",
    ),
    (
        "beside_two_owners",
        Draft("EINVAL"),
        "put('{\"user_id\": \"a\", \"user_id\": \"b\", \"api_key\": \"%s\"}' % KEY)",
    ),
    (
        "beside_bottomless_nesting",
        Draft("EINVAL"),
        "put('{\"x\": %s, \"api_key\": \"%s\"}' % ('[' * 2000 + ']' * 2000, KEY))",
    ),
    (
        "with_a_hole",
        Draft("EINVAL"),
        "f = opened(); os.write(f, A.encode()); os.pwrite(f, B.encode(), 9000); os.close(f)",
    ),
    (
        "in_a_draft_beyond_the_limit",
        Draft("EFBIG"),
        "f = opened(); os.write(f, TEXT.encode())\ntry: os.pwrite(f, KEY.encode(), 1 << 17)\nfinally: os.ftruncate(f, len(TEXT) - 1)",
    ),
    (
        "truncated_by_path_within_it",
        Draft(""),
        "f = opened(); os.write(f, TEXT.encode()); os.truncate(P, 40); os._exit(0)",
    ),
    (
        "in_a_draft_that_cannot_become_an_attachment",
        Draft("EINVAL"),
        "try: put(TEXT[:-1])\nexcept OSError: os.rename(P, P + '.txt')",
    ),
    (
        "in_a_draft_that_is_renamed",
        Draft(""),
        "try: put(TEXT[:-1])\nexcept OSError: os.rename(P, P + 'x.json'); os.rename(P + 'x.json', P)",
    ),
    (
        "by_a_writer_that_is_killed",
        Draft(""),
        "pid = os.fork()\nif pid == 0:\n    f = opened(); os.write(f, TEXT[:-1].encode()); os.kill(os.getpid(), signal.SIGKILL)\nos.waitpid(pid, 0)",
    ),
];

/// Runs a way of writing; what errno it met, if any.
fn write(mount: &Mount<'_>, sentinel: &Sentinel, path: &str, way: &str) -> String {
    let mut command = mount.command("python3");
    command.args(["-B", "-c", BEGIN, path, way]);
    success(command, &format!("{}\n", sentinel.key))
        .trim_end()
        .to_owned()
}

fn stored_key(volume: &Volume, name: &str) -> Option<String> {
    let path = volume.path(&ALICE, "schedules", name);
    path.exists()
        .then(|| volume.opened(&ALICE, "schedules", name, "api_key"))
        .flatten()
}

#[test]
fn an_api_key_written_in_any_way_is_found_nowhere() {
    let (volume, sentinel) = (Volume::new(Layout::ResourceFirst), Sentinel::new());
    let audit = volume.base().join("audit/audit.jsonl");
    fs::create_dir(audit.parent().unwrap()).unwrap();
    chown(audit.parent().unwrap(), Some(SERVICE_UID), Some(SERVICE_UID)).unwrap();
    let audited = ["--audit-log", audit.to_str().unwrap(), "--audit-level", "all"];
    let options = [&["--max-size", "64KiB"], &audited[..]].concat();
    let mount = volume.mount_sealing_with(&ALICE, &options);
    for (case, outcome, way) in WAYS {
        let (name, path) = (format!("{case}.json"), format!("schedules/{case}.json"));
        let errno = write(&mount, &sentinel, &path, way);
        let refused = match outcome {
            Draft(errno) => *errno,
            Sealed | Gone => "",
        };
        assert_eq!(errno, refused, "{case}");
        if let Draft(_) = outcome {
            // Kept, to be shown to its user and to nobody else.
            let kept = || {
                volume
                    .files(&ALICE)
                    .iter()
                    .any(|file| file.to_str().unwrap().contains("-draft-"))
            };
            assert!(eventually(Duration::from_secs(5), kept), "{case}: no draft");
            sentinel.is_not_on(&volume, case);
            assert_eq!(write(&mount, &sentinel, &path, "put(TEXT)"), "", "{case}");
        }
        sentinel.is_not_on(&volume, case);
        match outcome {
            Sealed | Draft(_) => {
                let opened = stored_key(&volume, &name).unwrap_or_default();
                let escaped = serde_json::from_str::<serde_json::Value>(&opened);
                let nested = escaped.is_ok_and(|value| value.to_string().contains(&sentinel.key));
                assert!(opened == sentinel.key || nested, "{case}");
            }
            Gone => assert_eq!(stored_key(&volume, &name), None, "{case}"),
        }
        sentinel.is_not_in(&mount.path, case);
    }
    assert!(WAYS.len() >= 30);
    sentinel.is_not_said_of(mount.pid(), "the mount");
    assert!(mount.unmount().success());
    sentinel.is_not_on(&volume, "unmounted");
    let lines = fs::read_to_string(&audit).unwrap();
    assert!(lines.contains("at_once.json") && !sentinel.is_in(lines.as_bytes()));
    sentinel.is_not_left("all ways");
    // A server that never knew the key shows nothing of it either.
    let mount = volume.mount(&ALICE);
    sentinel.is_not_in(&mount.path, "mounted again");
}

/// An attachment is its user's own file, and has what the user writes: so it is found there, as any of its spellings
/// would be, until it becomes a record.
#[test]
fn the_key_is_found_where_it_is() {
    let (volume, sentinel) = (Volume::new(Layout::ResourceFirst), Sentinel::new());
    let mount = volume.mount_sealing(&ALICE);
    let found = || !sentinel.below(&volume.root(), |_| true).is_empty();
    for spelled in [
        "TEXT",
        "A",
        "ESCAPED",
        "KEY.encode('utf-16-le').decode()",
        "KEY.encode().hex()",
        "__import__('base64').b64encode(b'x' + TEXT.encode()).decode()",
    ] {
        let way = format!("open(P, 'w').write({spelled})");
        assert_eq!(write(&mount, &sentinel, "schedules/t", &way), "", "{spelled}");
        assert!(found(), "{spelled}");
    }
    let named = "os.rename(P, D + '/' + KEY)";
    assert_eq!(
        write(&mount, &sentinel, "schedules/t", &format!("put(''); {named}")),
        ""
    );
    assert!(found());
    assert_eq!(
        write(
            &mount,
            &sentinel,
            "schedules/t",
            "os.unlink(D + '/' + KEY); put(TEXT)"
        ),
        ""
    );
    let seen = std::panic::catch_unwind(|| sentinel.is_not_in(&mount.path, "an attachment"));
    assert!(seen.is_err());
    assert_eq!(
        write(&mount, &sentinel, "schedules/t", "os.rename(P, P + '.json')"),
        ""
    );
    assert!(!found());
    sentinel.is_not_in(&mount.path, "a record");
    assert_eq!(stored_key(&volume, "t.json").as_deref(), Some(&*sentinel.key));

    let left = tempfile::NamedTempFile::new().unwrap();
    fs::write(left.path(), &sentinel.key).unwrap();
    assert!(std::panic::catch_unwind(|| sentinel.is_not_left("a temporary file")).is_err());
    let mut sleeper = std::process::Command::new("sleep")
        .args(["60"])
        .env("KEY", &sentinel.key)
        .spawn()
        .unwrap();
    // The kernel shows the environment a moment after the program has begun.
    let said = eventually(Duration::from_secs(5), || {
        std::panic::catch_unwind(|| sentinel.is_not_said_of(Pid::from_child(&sleeper), "a process")).is_err()
    });
    sleeper.kill().unwrap();
    sleeper.wait().unwrap();
    assert!(said);
}

/// What was typed and not saved is lost with the server, and what was kept is sealed.
#[test]
fn a_server_that_is_killed_leaves_no_trace_of_the_key() {
    let (volume, sentinel) = (Volume::new(Layout::ResourceFirst), Sentinel::new());
    volume.has_keys("k1", &["k1"]);
    let mount = volume.mount_sealing(&ALICE);
    write(&mount, &sentinel, "schedules/kept.json", "put(A)");
    write(&mount, &sentinel, "schedules/saved.json", "put(TEXT)");
    let code = "
import os, sys
key = sys.stdin.readline().strip()
f = os.open('schedules/x.json', os.O_WRONLY | os.O_CREAT)
g = os.open('schedules/saved.json', os.O_WRONLY | os.O_TRUNC)
os.write(f, ('{\"api_key\": \"%s\", ' % key).encode())
os.write(g, ('{\"api_key\": \"%s\"' % key).encode())
print('written', flush=True)
sys.stdin.readline()
";
    let mut writer = Conversation::start(&mount, code);
    assert_eq!(writer.say(&sentinel.key), "written");
    sentinel.is_not_on(&volume, "being written");
    sentinel.is_not_said_of(mount.pid(), "being written");
    kill_process(mount.pid(), Signal::KILL).unwrap();
    assert!(eventually(Duration::from_secs(10), || !common::is_mounted(
        &mount.path
    )));
    drop(writer);
    drop(mount);
    sentinel.is_not_on(&volume, "killed");
    sentinel.is_not_left("killed");
    assert_eq!(stored_key(&volume, "saved.json").as_deref(), Some(&*sentinel.key));
    let mount = volume.mount_sealing(&ALICE);
    assert_eq!(mount.shell("ls schedules"), "kept.json\nsaved.json\n");
    assert!(
        mount
            .read("schedules/kept.json")
            .starts_with("{\"n\": 1, \"api_key\": \"sk-")
    );
    mount.shell("rm schedules/kept.json");
    sentinel.is_not_in(&mount.path, "after the restart");
}

#[test]
fn a_full_volume_gets_no_trace_of_the_key() {
    let (volume, sentinel) = (Volume::new(Layout::ResourceFirst), Sentinel::new());
    let small = Small::at(volume.root());
    let mount = volume.mount_sealing(&ALICE);
    mount.shell("echo '{\"n\": 0}' > schedules/x.json");
    fs::write(small.0.join("ballast"), vec![0; 1 << 20]).unwrap_err();
    let big = "put('{\"api_key\": \"%s\", \"x\": \"%s\"}' % (KEY, KEY * 2000))";
    assert_eq!(write(&mount, &sentinel, "schedules/x.json", big), "ENOSPC");
    assert_eq!(
        write(&mount, &sentinel, "schedules/y.json", &big.replace("\"}", "\"")),
        "ENOSPC"
    );
    sentinel.is_not_on(&volume, "full");
    fs::remove_file(small.0.join("ballast")).unwrap();
    let save = "f = os.open(P, os.O_WRONLY); os.ftruncate(f, 0); os.write(f, TEXT.encode()); os.close(f)";
    for path in ["schedules/x.json", "schedules/y.json"] {
        assert_eq!(write(&mount, &sentinel, path, save), "");
    }
    for name in ["x.json", "y.json"] {
        assert_eq!(stored_key(&volume, name).as_deref(), Some(&*sentinel.key));
    }
    sentinel.is_not_on(&volume, "with room again");
    sentinel.is_not_in(&mount.path, "with room again");
    drop(mount);
    sentinel.is_not_on(&volume, "unmounted");
    sentinel.is_not_left("full");
}

/// The key that a user logs in with, which the daemon attaches to records.
#[test]
fn the_key_of_a_session_is_found_nowhere() {
    let (volume, sentinel) = (Volume::new(Layout::UserFirst), Sentinel::new());
    volume.has_keys("k1", &["k1"]);
    let hash = tenantfs::auth::key_hash(&tenantfs::auth::ApiKey::new(&sentinel.key).unwrap());
    let keys = serde_json::json!({"keys": [{"sha256": hash, "user_id": "alice"}]});
    fs::write(volume.static_keys_file(), keys.to_string()).unwrap();
    let sealing = volume.sealing_keys_file();
    let options = [
        "--sealing-keys",
        sealing.to_str().unwrap(),
        "--attach-session-key",
        "schedules",
    ];
    let daemon = Daemon::start(&volume, &options);
    daemon.asked(ALICE.uid, &["login"], &sentinel.key);
    let place = daemon.place(ALICE.uid);
    common::shell(
        ALICE.uid,
        &place,
        "echo '{}' > schedules/x.json; echo '{' > schedules/y.json || true",
    );
    sentinel.is_not_in(&place, "attached");
    sentinel.is_not_on(&volume, "attached");
    sentinel.is_not_said_of(daemon.pid(), "attached");
    assert_eq!(stored_key(&volume, "x.json").as_deref(), Some(&*sentinel.key));
    let wrong = daemon.ask(ALICE.uid, &["login"], &format!("{}-wrong", sentinel.key));
    assert!(!wrong.status.success());
    assert!(!sentinel.is_in(&wrong.stderr) && !sentinel.is_in(&wrong.stdout));
    assert!(!sentinel.is_in(&run(status_of(&volume, &daemon), "").stdout));
    drop(daemon);
    sentinel.is_not_on(&volume, "ended");
    sentinel.is_not_left("ended");
}

fn status_of(volume: &Volume, daemon: &Daemon<'_>) -> std::process::Command {
    let mut command = as_user(0, volume.base(), env!("CARGO_BIN_EXE_tenantfs"));
    command.args(["status", "--json", "--socket"]).arg(&daemon.socket);
    command
}

/// A file system of half a megabyte on the volume's root.
struct Small(PathBuf);

impl Small {
    fn at(root: PathBuf) -> Self {
        rustix::mount::mount("tmpfs", &root, "tmpfs", MountFlags::empty(), Some(c"size=512k")).unwrap();
        let small = Self(root);
        chown(&small.0, Some(SERVICE_UID), Some(SERVICE_UID)).unwrap();
        set_mode(&small.0, 0o750);
        small
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.0, UnmountFlags::DETACH);
    }
}
