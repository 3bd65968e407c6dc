//! Which layout a volume has, as it says itself: `.tenantfs-layout` in its root, written by `tenantfs migrate`.

use std::io::Read;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, Result};
use crate::layout::Layout;
use crate::volume::{Access, Dir, Durability, Staged};

const NAME: &str = ".tenantfs-layout";

/// The longest mark, in bytes.
const MAX: u64 = 1024;

/// What the file says: `{"layout":"user-first"}`, and during a migration also `"from"`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LayoutMark {
    /// The layout in force.
    pub layout: Layout,
    /// The one that is being left: there may still be something in it.
    pub from: Option<Layout>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    layout: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    from: Option<String>,
}

impl LayoutMark {
    /// Reads it; none when the volume does not say.
    ///
    /// # Errors
    /// [`Kind::Config`] when it cannot be understood; the volume's.
    pub fn read(root: &Dir) -> Result<Option<Self>> {
        let file = match root.open_file(NAME, Access::Read) {
            Err(error) if error.kind() == Kind::NotFound => return Ok(None),
            opened => opened?,
        };
        let wrong = |why: String| Error::new(Kind::Config, format!("{NAME} of the volume: {why}"));
        let mut text = String::new();
        file.take(MAX)
            .read_to_string(&mut text)
            .map_err(|error| wrong(error.to_string()))?;
        let text: Text = serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
        Ok(Some(Self {
            layout: text.layout.parse()?,
            from: text.from.map(|from| from.parse()).transpose()?,
        }))
    }

    /// Writes it, durably.
    ///
    /// # Errors
    /// The volume's.
    pub fn write(self, root: &Dir) -> Result<()> {
        let text = Text {
            layout: self.layout.to_string(),
            from: self.from.map(|from| from.to_string()),
        };
        let mut text = serde_json::to_vec(&text).map_err(|error| Error::new(Kind::Io, error.to_string()))?;
        text.push(b'\n');
        let mut staged = Staged::new(root, &root.stat_self()?)?;
        staged.write(&text)?;
        staged.place(NAME, Durability::Durable).map(drop)
    }

    /// Refuses a layout that is not the volume's.
    ///
    /// # Errors
    /// [`Kind::Config`].
    pub fn check(root: &Dir, layout: Layout) -> Result<()> {
        let wrong = |why: String| Err(Error::new(Kind::Config, why));
        match Self::read(root)? {
            Some(Self {
                from: Some(_),
                layout,
            }) => wrong(format!(
                "the volume is being migrated to {layout}: run `tenantfs migrate` to its end first"
            )),
            Some(mark) if mark.layout != layout => wrong(format!(
                "the volume is {}, by its {NAME}; correct --layout",
                mark.layout
            )),
            _ => Ok(()),
        }
    }
}
