//! A disk of one's own for a volume, to be filled, broken and cut off.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::common::{OtherMount, SERVICE_UID, Volume, eventually, run, set_mode, success};

/// A disk of its own for a volume: ext4 in a file, mounted on the volume's root.
pub(crate) struct Disk {
    image: PathBuf,
    mounted: Option<OtherMount>,
    place: PathBuf,
}

impl Disk {
    /// Of so many MiB, in a file in `directory`.
    pub(crate) fn new(volume: &Volume, directory: &Path, size: u64) -> Self {
        let image = directory.join("disk");
        fs::File::create(&image).unwrap().set_len(size << 20).unwrap();
        let mut command = Command::new("mkfs.ext4");
        // Nothing is left to root, and nothing written later on, when nobody expects it.
        command.args([
            "-q",
            "-b",
            "1024",
            "-m",
            "0",
            "-E",
            "lazy_itable_init=0,lazy_journal_init=0",
        ]);
        command.arg(&image);
        success(command, "");
        let mut disk = Self {
            image,
            mounted: None,
            place: volume.root(),
        };
        disk.mount();
        fs::remove_dir(disk.place.join("lost+found")).unwrap();
        std::os::unix::fs::chown(&disk.place, Some(SERVICE_UID), Some(SERVICE_UID)).unwrap();
        set_mode(&disk.place, 0o750);
        disk
    }

    fn mount(&mut self) {
        let mut command = Command::new("mount");
        command.args(["-o", "loop"]).arg(&self.image).arg(&self.place);
        success(command, "");
        self.mounted = Some(OtherMount {
            place: self.place.clone(),
        });
    }

    /// Stops at once: nothing more is written, not even what is under way in memory (EXT4_IOC_SHUTDOWN, without a flush).
    pub(crate) fn stop(&self) {
        const STOP: &str = "import fcntl, os, struct, sys; \
                            fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x8004587d, struct.pack('I', 2))";
        let mut command = Command::new("python3");
        command.args(["-c", STOP]).arg(&self.place);
        success(command, "");
    }

    /// As when the machine starts again.
    pub(crate) fn mount_again(&mut self) {
        // Who had it open may take a moment to end.
        let unmounts = || {
            let mut command = Command::new("umount");
            command.arg(&self.place);
            run(command, "").status.success()
        };
        assert!(eventually(Duration::from_secs(5), unmounts));
        self.mounted = None;
        self.mount();
    }

    /// Takes all the space there is. Removed, the file gives it back.
    pub(crate) fn fill(&self) -> PathBuf {
        let ballast = self.place.join("ballast");
        let mut file = fs::File::create(&ballast).unwrap();
        for chunk in [1 << 16, 1 << 10] {
            while std::io::Write::write_all(&mut file, &vec![0xAA; chunk]).is_ok() {}
        }
        file.sync_all().unwrap();
        ballast
    }
}
