//! What was typed and is no record yet: in memory, and kept on the volume.

mod file;
mod foreign;
mod kept;
mod text;

pub(super) use file::DraftFile;
pub use foreign::{ForeignDraft, draft_limit};
pub(super) use kept::Kept;
pub use text::Draft;
