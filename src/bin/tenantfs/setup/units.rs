//! What the units are told beyond what the package has: drop-ins, of which an operator's own stay apart.

use std::path::{Path, PathBuf};

use super::auth::Auth;
use super::host::{Account, DEFAULT_ACCOUNT, Volume};

/// Where the units expect the program.
const PROGRAM: &str = "/usr/bin/tenantfs";

/// Where drop-ins are.
const UNITS: &str = "/etc/systemd/system";

/// The volume that the units have.
const DEFAULT_VOLUME: &str = "/srv/records";

/// The first systemd that keeps descriptors over a stop.
const PRESERVES: u32 = 254;

/// What ProtectHome= and PrivateTmp= hide.
const HOMES: [&str; 3] = ["/home", "/root", "/run/user"];
const TEMPORARY: [&str; 2] = ["/tmp", "/var/tmp"];

/// The units that setup writes drop-ins for.
pub(super) const CHANGED: [&str; 6] = [
    "tenantfs.service",
    "tenantfs@.service",
    "tenantfs-mounter.service",
    "tenantfs-mounter.socket",
    "tenantfs-auth.socket",
    "user-runtime-dir@.service",
];

/// What the drop-ins depend on.
pub(super) struct Wanted<'a> {
    pub(super) volume: &'a Volume,
    pub(super) auth: &'a Auth,
    pub(super) pam: bool,
    pub(super) systemd: u32,
}

/// Where the drop-in of a unit is.
pub(super) fn path(unit: &str) -> PathBuf {
    Path::new(UNITS).join(format!("{unit}.d/tenantfs-setup.conf"))
}

impl Wanted<'_> {
    /// The drop-in of a unit, without its comment; empty where none is needed.
    fn of(&self, unit: &str) -> String {
        let account = &self.volume.account;
        match unit {
            "tenantfs.service" => self.server() + self.preserving(),
            "tenantfs@.service" => self.server(),
            _ if unit.starts_with("user-runtime-dir") && self.pam => {
                format!("[Service]\nExecStop=-{PROGRAM} logout --uid %i --if-idle\n")
            }
            _ if unit.starts_with("user-runtime-dir") || account.name == DEFAULT_ACCOUNT => String::new(),
            "tenantfs-mounter.service" => format!(
                "[Service]\nExecStart=\nExecStart={PROGRAM} mounter --beneath /run/tenantfs/mnt --beneath /run/tenantfs/service --admit {}\n",
                plain_name(account)
            ),
            _ => format!("[Socket]\nSocketUser={}\n", plain_name(account)),
        }
    }

    /// Every drop-in, as its path and text; none as the text of one that is not needed.
    pub(super) fn all(&self) -> Vec<(PathBuf, Option<String>)> {
        let text = |unit| {
            let text = self.of(unit);
            (!text.is_empty()).then(|| {
                format!("# Written by `tenantfs setup`, and replaced by it. Settings of your own: systemctl edit {unit}\n{text}")
            })
        };
        CHANGED.iter().map(|unit| (path(unit), text(unit))).collect()
    }

    /// What the servers of a host and of a view have in common.
    fn server(&self) -> String {
        let Volume { path, account, .. } = self.volume;
        let mut service = String::new();
        if account.name != DEFAULT_ACCOUNT {
            service += &format!("User={0}\nGroup={1}\n", plain_name(account), account.gid);
        }
        let is_default = path == Path::new(DEFAULT_VOLUME);
        if !is_default {
            service += &format!("ReadWritePaths=\nReadWritePaths={}\n", word(path, "-"));
        }
        let is_below = |places: &[&str]| places.iter().any(|place| path.starts_with(place));
        if is_below(&HOMES) {
            service += "ProtectHome=tmpfs\n";
        }
        if is_below(&HOMES) || is_below(&TEMPORARY) {
            service += &format!("BindPaths={}\n", word(path, ""));
        }
        if let Auth::Loopback { .. } = self.auth {
            service += "# The auth service is asked by plain http, and the kernel who answers.\n\
                PrivateNetwork=no\nIPAddressAllow=localhost\nRestrictAddressFamilies=AF_INET AF_INET6 AF_NETLINK\n";
        }
        let mut text = String::new();
        if !is_default {
            text += &format!("[Unit]\nRequiresMountsFor={}\n", word(path, ""));
        }
        if !service.is_empty() {
            text += &format!("[Service]\n{service}");
        }
        text
    }

    fn preserving(&self) -> &'static str {
        match self.systemd >= PRESERVES {
            true => "[Service]\nFileDescriptorStorePreserve=yes\n",
            false => "",
        }
    }
}

/// A path as one word of a directive: in quotes, and with nothing that systemd expands.
fn word(path: &Path, prefix: &str) -> String {
    let path = path.display().to_string();
    let escaped = path.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%");
    format!("\"{prefix}{escaped}\"")
}

/// The account's name, where systemd takes it as it is; else its number.
fn plain_name(account: &Account) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    match account.name.chars().all(is_plain) {
        true => account.name.clone(),
        false => account.uid.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::host::Becomes;
    use super::*;

    fn drop_ins(path: &str, name: &str, auth: &Auth, systemd: u32) -> Vec<(PathBuf, String)> {
        let account = Account {
            name: name.to_owned(),
            group: "staff".to_owned(),
            uid: 991,
            gid: 50,
        };
        let volume = Volume {
            path: path.into(),
            account,
            becomes: Becomes::AsItIs,
        };
        let wanted = Wanted {
            volume: &volume,
            auth,
            pam: false,
            systemd,
        };
        let all = wanted.all().into_iter();
        all.filter_map(|(path, text)| Some((path, text?))).collect()
    }

    fn keys() -> Auth {
        Auth::Keys("/etc/tenantfs/keys.json".into())
    }

    #[test]
    fn the_packages_own_account_and_volume_need_no_drop_in() {
        assert_eq!(drop_ins("/srv/records", "tenantfs", &keys(), 252), []);
    }

    #[test]
    fn another_account_is_told_to_every_unit_that_names_it() {
        let all = drop_ins("/srv/records", "web", &keys(), 252);
        let names = |unit| {
            let text = all
                .iter()
                .find(|(at, _)| *at == path(unit))
                .map(|(_, text)| text.as_str());
            text.unwrap_or_default()
        };
        assert!(names("tenantfs.service").contains("\nUser=web\nGroup=50\n"));
        assert!(names("tenantfs@.service").contains("\nUser=web\nGroup=50\n"));
        assert!(
            names("tenantfs-mounter.service").contains("\nExecStart=\nExecStart=/usr/bin/tenantfs mounter ")
        );
        assert!(names("tenantfs-mounter.service").ends_with(" --admit web\n"));
        for socket in ["tenantfs-mounter.socket", "tenantfs-auth.socket"] {
            assert!(names(socket).ends_with("[Socket]\nSocketUser=web\n"), "{socket}");
        }
        assert_eq!(all.len(), 5);
        // A name that systemd would read otherwise.
        let odd = drop_ins("/srv/records", "DOM\\web 1", &keys(), 252);
        assert!(
            odd.iter()
                .all(|(_, text)| text.contains("991") && !text.contains("DOM"))
        );
    }

    #[test]
    fn a_volume_is_one_word_and_reachable_in_the_sandbox() {
        let [(_, text), _] = &drop_ins("/data/my 100% \"records\"", "tenantfs", &keys(), 252)[..] else {
            panic!("two servers");
        };
        assert!(
            text.contains("\n[Unit]\nRequiresMountsFor=\"/data/my 100%% \\\"records\\\"\"\n"),
            "{text}"
        );
        assert!(
            text.contains("\nReadWritePaths=\nReadWritePaths=\"-/data/my 100%% \\\"records\\\"\"\n"),
            "{text}"
        );
        let [(_, home), _] = &drop_ins("/home/web/records", "tenantfs", &keys(), 252)[..] else {
            panic!("two servers");
        };
        assert!(
            home.contains("\nProtectHome=tmpfs\nBindPaths=\"/home/web/records\"\n"),
            "{home}"
        );
        let [(_, temporary), _] = &drop_ins("/tmp/records", "tenantfs", &keys(), 252)[..] else {
            panic!("two servers");
        };
        assert!(
            temporary.contains("\nBindPaths=\"/tmp/records\"\n") && !temporary.contains("ProtectHome"),
            "{temporary}"
        );
    }

    #[test]
    fn only_a_service_that_is_asked_by_plain_http_gives_the_server_a_network() {
        let url = "http://127.0.0.1:8089/validate".to_owned();
        let loopback = Auth::Loopback {
            url,
            service_user: None,
        };
        let all = drop_ins("/srv/records", "tenantfs", &loopback, 252);
        assert_eq!(all.len(), 2);
        for (_, text) in all {
            assert!(
                text.contains("\nPrivateNetwork=no\nIPAddressAllow=localhost\n"),
                "{text}"
            );
        }
        let tls = Auth::Tls {
            url: String::new(),
            host: String::new(),
        };
        assert_eq!(drop_ins("/srv/records", "tenantfs", &tls, 252), []);
    }

    #[test]
    fn a_later_systemd_keeps_sessions_over_a_stop() {
        let [(at, text)] = &drop_ins("/srv/records", "tenantfs", &keys(), 254)[..] else {
            panic!("one server");
        };
        assert_eq!(*at, path("tenantfs.service"));
        assert!(text.contains("FileDescriptorStorePreserve=yes"), "{text}");
    }
}
