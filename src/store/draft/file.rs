//! The file that a kept draft is: a line that says whose and what it is, and the text, sealed where anything can be.

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::error::{Error, Kind, Result};
use crate::identity::UserId;
use crate::seal::{Closed, Sealer};

/// The longest first line, in bytes: a name of 255 bytes and a user id of 512, each escaped, and the rest.
pub(in crate::store) const MAX_HEADER: u64 = 8192;

const FORMAT: u32 = 1;

/// The first line.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::store) struct Header {
    /// The version of this format.
    tenantfs_draft: u32,
    /// The full hash of the user who wrote it.
    pub(in crate::store) owner: String,
    /// The record it would become.
    pub(in crate::store) name: String,
    /// The permission bits its user gave it.
    pub(in crate::store) mode: Option<u16>,
    /// How the text is sealed; absent where it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sealed: Option<Sealed>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sealed {
    /// Whom it is sealed for: whoever changes the keys has to know.
    user_id: String,
    /// The length of the text, in bytes.
    size: u64,
}

/// A kept draft, as far as it was read.
pub(in crate::store) struct DraftFile {
    pub(in crate::store) header: Header,
    text_at: usize,
    bytes: Zeroizing<Vec<u8>>,
}

impl DraftFile {
    /// The file for a draft of the record `name`; `sealer` is the user's.
    ///
    /// # Errors
    /// [`Kind::Io`] when it cannot be sealed.
    pub(in crate::store) fn new(
        user: &UserId,
        sealer: Option<&Sealer>,
        name: &str,
        mode: Option<u16>,
        text: &[u8],
    ) -> Result<Self> {
        let header = Header {
            tenantfs_draft: FORMAT,
            owner: user.full_hash(),
            name: name.to_owned(),
            mode,
            sealed: sealer.map(|_| Sealed {
                user_id: user.as_str().to_owned(),
                size: text.len() as u64,
            }),
        };
        let line = serde_json::to_vec(&header)
            .map_err(|error| Error::new(Kind::Io, format!("writing the header of a draft: {error}")))?;
        let sealed = sealer.map(|sealer| sealer.seal_draft(name, text)).transpose()?;
        let text = sealed.as_ref().map_or(text, String::as_bytes);
        let mut bytes = Zeroizing::new(Vec::with_capacity(line.len() + 1 + text.len()));
        bytes.extend_from_slice(&line);
        bytes.push(b'\n');
        bytes.extend_from_slice(text);
        Ok(Self {
            header,
            text_at: line.len() + 1,
            bytes,
        })
    }

    /// Understands what was read, which need not be all; none when it is no draft.
    pub(in crate::store) fn parse(bytes: Zeroizing<Vec<u8>>) -> Option<Self> {
        let end = bytes.iter().position(|byte| *byte == b'\n')?;
        let header: Header = serde_json::from_slice(bytes.get(..end)?).ok()?;
        (header.tenantfs_draft == FORMAT).then_some(Self {
            header,
            text_at: end + 1,
            bytes,
        })
    }

    /// What the file has.
    pub(in crate::store) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How long the text is, in a file of `size` bytes.
    pub(in crate::store) fn text_size(&self, size: u64) -> u64 {
        let stored = size.saturating_sub(self.text_at as u64);
        self.header.sealed.as_ref().map_or(stored, |sealed| sealed.size)
    }

    /// The text, if all of the file was read.
    ///
    /// # Errors
    /// Why it cannot be opened.
    pub(in crate::store) fn text(
        &self,
        sealer: Option<&Sealer>,
    ) -> std::result::Result<Zeroizing<Vec<u8>>, Closed> {
        let stored = self.bytes.get(self.text_at..).unwrap_or_default();
        let Some(Sealed { size, .. }) = self.header.sealed else {
            return Ok(Zeroizing::new(stored.to_vec()));
        };
        let sealed = std::str::from_utf8(stored).map_err(|_| Closed::Damaged)?;
        let sealer = sealer.ok_or(Closed::NoKeys)?;
        match sealer.open_draft(&self.header.name, sealed) {
            // It says that it is sealed.
            Err(Closed::NotSealed) => Err(Closed::Damaged),
            // What was shown as its length must be it.
            Ok(text) if text.len() as u64 != size => Err(Closed::Damaged),
            opened => opened,
        }
    }

    /// Whose key seals it; none where it is not sealed, or says so of somebody who cannot be.
    pub(in crate::store) fn sealed_by(&self) -> Option<UserId> {
        let sealed = self.header.sealed.as_ref()?;
        let user = UserId::new(sealed.user_id.as_str()).ok()?;
        (user.full_hash() == self.header.owner).then_some(user)
    }

    /// Whether it is sealed, and not under the active key.
    pub(in crate::store) fn is_outdated(&self, sealer: &Sealer) -> bool {
        let sealed = std::str::from_utf8(self.bytes.get(self.text_at..).unwrap_or_default());
        self.header.sealed.is_some() && !sealed.is_ok_and(|sealed| sealer.is_active(sealed))
    }
}

/// The most that a file may have for a text of at most `max` bytes.
pub(in crate::store) fn limit(max: u64) -> u64 {
    // The text form of what is sealed is a third longer, and has a key's id and a nonce with it.
    MAX_HEADER + max + max / 3 + 256
}
