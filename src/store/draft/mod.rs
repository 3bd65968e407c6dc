//! What was typed and is no record yet: in memory, and kept on the volume.

mod file;
mod foreign;
mod kept;
mod known;
mod text;

pub(super) use file::DraftFile;
pub use foreign::{ForeignDraft, draft_limit};
pub(super) use kept::Kept;
pub(super) use known::{KnownDrafts, Since};
pub use text::Draft;
