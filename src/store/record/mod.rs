//! What is done with a record.

mod commit;
mod drafts;
mod handle;
mod left;
mod removed;

pub use handle::Record;
