//! What is done with a record.

mod away;
mod commit;
mod drafts;
mod handle;

pub use handle::Record;
