//! One person is one share, however many accounts and sessions they come with.

use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use super::arena::{Arena, Due, rounds, tell};
use crate::common::{ALICE, BOB, Layout, Volume, as_user, shell};

/// Accounts of this host that all have alice's key.
const ACCOUNTS: std::ops::Range<u32> = 71_001..71_013;

/// Holds drafts until there is no more memory, then as many files open as can be, and waits.
const TAKE_ALL: &str = "import os, time\n\
    held, size = [], 2000 << 10\n\
    while size >= 4096 and len(held) < 300:\n\
    \x20   file = os.open('schedules/%d-%d.json' % (os.getuid(), len(held)), os.O_CREAT | os.O_RDWR, 0o600)\n\
    \x20   held.append(file)\n\
    \x20   try:\n\
    \x20       os.write(file, b'x' * size)\n\
    \x20   except OSError: size //= 2\n\
    try:\n\
    \x20   while len(held) < 900: held.append(os.open('results', os.O_RDONLY))\n\
    except OSError: pass\n\
    print('done', flush=True); time.sleep(600)";

/// Holds what it can, until it is dropped.
struct Greedy(Child);

impl Greedy {
    fn start(uid: u32, place: &Path) -> Self {
        let mut command = as_user(uid, place, "python3");
        command.args(["-B", "-c", TAKE_ALL]).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut done = [0; 5];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut done).unwrap();
        Self(child)
    }
}

impl Drop for Greedy {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[test]
fn a_person_with_many_accounts_has_four_sessions_and_leaves_everybody_their_floor() {
    let volume = Volume::new(Layout::default());
    let arena = Arena::with(&volume, &["--max-size", "2MiB"]);
    let largest = "import os\n\
        text = b'{\"a\":\"' + b'y' * ((2 << 20) - 100) + b'\"}'\n\
        for name in ('one', 'two'): open('schedules/%s.json' % name, 'wb').write(text)\n\
        print(len(open('schedules/one.json', 'rb').read()), len(os.listdir('schedules')))\n\
        held = [os.open('schedules/one.json', os.O_RDONLY) for _ in range(60)]\n\
        for name in ('one', 'two'): os.unlink('schedules/%s.json' % name)";
    let mut greedy = Vec::new();
    let logins = || {
        let places = ACCOUNTS.map(|uid| {
            let args = ["login", "--uid", &uid.to_string()];
            let output = arena.daemon.ask(0, &args, ALICE.api_key);
            let place = PathBuf::from(String::from_utf8(output.stdout).unwrap().trim());
            let said = String::from_utf8(output.stderr).unwrap();
            assert!(
                output.status.success() || said.contains("may have no more"),
                "{said}"
            );
            output.status.success().then_some((uid, place))
        });
        places.flatten().collect::<Vec<_>>()
    };
    let places = arena.case("one key under twelve accounts", Due::Lines("*"), logins);
    // Alice's own is the fourth.
    assert_eq!(places.len(), 3);
    for (uid, place) in &places {
        greedy.push(Greedy::start(*uid, place));
    }
    greedy.push(Greedy::start(ALICE.uid, &arena.alice));
    for _ in 0..rounds(1, 5) {
        let did = crate::common::python(BOB.uid, &arena.bob, largest, &[]);
        assert_eq!(did, format!("{} 3\n", (2 << 20) - 92), "{}", arena.daemon.log());
        arena.stands("four greedy sessions of one person");
    }
    drop(greedy);
    shell(ALICE.uid, &arena.alice, "rm -f schedules/*");
    tell("shares", "accounts of one person, twelve logins", ACCOUNTS.len());
}
