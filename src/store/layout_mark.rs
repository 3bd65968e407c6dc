//! Which layout a volume has, as it says itself: `.tenantfs-layout` in its root, written at the first start, and by
//! `tenantfs migrate`.

use std::io::Read;
use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, Result};
use crate::identity::UserHash;
use crate::layout::Layout;
use crate::name::Resource;
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
        self.staged(root)?.place(NAME, Durability::Durable).map(drop)
    }

    fn staged(self, root: &Dir) -> Result<Staged<'_>> {
        let text = Text {
            layout: self.layout.to_string(),
            from: self.from.map(|from| from.to_string()),
        };
        let mut text = serde_json::to_vec(&text).map_err(|error| Error::new(Kind::Io, error.to_string()))?;
        text.push(b'\n');
        let mut staged = Staged::new(root, &root.stat_self()?)?;
        staged.write(&text)?;
        Ok(staged)
    }

    /// Refuses a layout that is not the volume's: as its mark says, or else as what lies there does. Where there are
    /// users' directories in both, the one that is asked for is taken.
    ///
    /// # Errors
    /// [`Kind::Config`].
    pub fn check(root: &Dir, layout: Layout, resources: &[Resource]) -> Result<()> {
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
            Some(_) => Ok(()),
            None => match home_in(root, layout.other(), resources)? {
                Some(home) if home_in(root, layout, resources)?.is_none() => wrong(format!(
                    "the volume is {other}, for {home} is there, and is to be served as {layout}: correct --layout \
                     (volume.layout); or run `tenantfs migrate --from {other} --to {layout}`",
                    other = layout.other()
                )),
                _ => Ok(()),
            },
        }
    }

    /// Has the volume say from now on which layout it has, where it does not yet. Returns a user's directory in the other
    /// layout, which nobody sees, where there is one.
    ///
    /// # Errors
    /// As of [`check`](Self::check); the volume's.
    pub fn settle(root: &Dir, layout: Layout, resources: &[Resource]) -> Result<Option<String>> {
        Self::check(root, layout, resources)?;
        if Self::read(root)?.is_some() {
            return Ok(None);
        }
        let stray = home_in(root, layout.other(), resources)?;
        let mark = Self { layout, from: None };
        match mark.staged(root)?.place_new(NAME, Durability::Durable) {
            // Somebody else was first, such as a migration: what it says is looked at when it counts.
            Err(error) if error.kind() == Kind::Exists => {}
            placed => drop(placed?),
        }
        Ok(stray)
    }
}

/// A user's directory as `layout` has it, if there is one.
fn home_in(root: &Dir, layout: Layout, resources: &[Resource]) -> Result<Option<String>> {
    for name in layout.outermost(resources) {
        // A resource may be called so: then it says nothing of the layout.
        let is_both = layout.other().outermost(resources).contains(&name);
        let tree = match root.open_dir(name) {
            Ok(tree) if !is_both => tree,
            // What cannot be looked at is told by whoever has to.
            _ => continue,
        };
        let mut home = None;
        tree.entries_until(|entry| match std::str::from_utf8(entry) {
            Ok(entry) if UserHash::is_spelled(entry) => {
                home = Some(format!("{name}/{entry}"));
                ControlFlow::Break(())
            }
            _ => ControlFlow::Continue(()),
        })?;
        if home.is_some() {
            return Ok(home);
        }
    }
    Ok(None)
}
