//! The wall between uids: nobody comes into a view that is not theirs, by whatever way they take.

use crate::arena::{Arena, Due};
use crate::common::{ALICE, BOB, Layout, SERVICE_UID, Volume, errno};

#[test]
fn another_uid_stays_outside() {
    let volume = Volume::new(Layout::ResourceFirst);
    let arena = Arena::new(&volume);
    for uid in [0, BOB.uid, SERVICE_UID, 65534] {
        let statement = format!("os.listdir('{}')", arena.alice.display());
        // The kernel refuses: the server is not asked, and has nothing to say of it.
        arena.case(&format!("listing, as {uid}"), Due::Nothing, || {
            assert_eq!(errno(uid, volume.base(), &statement), "EACCES");
        });
    }
}

#[test]
fn a_link_out_of_a_view_is_refused_with_a_line() {
    let volume = Volume::new(Layout::ResourceFirst);
    let arena = Arena::new(&volume);
    arena.case("symlink", Due::Line("symlink schedules/out EPERM"), || {
        let link = "os.symlink('/etc/passwd', 'schedules/out')";
        assert_eq!(errno(ALICE.uid, &arena.alice, link), "EPERM");
    });
}
