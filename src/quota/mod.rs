//! How much each user may have on the volume, and how much they have.
//!
//! A file counts its size, holes too, in whole blocks of 4 KiB and one at least; a directory counts one block. So what a file
//! counts is known before it is written, is the same on every file system, and what a program maps and writes into later is paid
//! for when the file gets its size. What a file system needs beyond that (names, extents) is not counted.
//!
//! ```
//! use std::sync::Arc;
//! use tenantfs::error::Kind;
//! use tenantfs::quota::{Amount, Limits, Meter};
//!
//! let limits = Limits { bytes: Some(12 << 10), files: None };
//! let meter = Arc::new(Meter::counted(limits, Amount::NONE));
//! let first = meter.reserve(Amount::file(5000))?;
//! // Before anything of the first is written, the second is refused.
//! assert_eq!(meter.reserve(Amount::file(5000)).unwrap_err().kind(), Kind::QuotaExceeded);
//! drop(first);
//! assert!(meter.reserve(Amount::file(5000)).is_ok());
//! # Ok::<(), tenantfs::error::Error>(())
//! ```

mod account;
mod amount;
mod limits;
mod meter;
mod quotas;
mod tracked;
mod users;

pub use account::{Account, Count, Counted, Waits};
pub use amount::Amount;
pub use limits::{Limits, parse_bytes};
pub use meter::{Counting, Inode, Meter, Reservation, Standing, Turn};
pub use quotas::Quotas;
pub use tracked::Tracked;
pub use users::{Users, UsersFile};
