//! What is agreed on with the kernel when the connection begins.

use fuser::{InitFlags, KernelConfig};

/// The largest read and write, in bytes.
const MAX_TRANSFER: u32 = 1 << 20;

/// What is asked of the kernel, where it can do it.
const CAPABILITIES: [InitFlags; 6] = [
    // Truncation comes with the open that asks for it.
    InitFlags::FUSE_ATOMIC_O_TRUNC,
    // Lookups in one directory at the same time.
    InitFlags::FUSE_PARALLEL_DIROPS,
    // Pages go when size or modification time change on the volume.
    InitFlags::FUSE_AUTO_INVAL_DATA,
    // Listing and looking up in one go, always.
    InitFlags::FUSE_DO_READDIRPLUS,
    InitFlags::FUSE_ASYNC_READ,
    InitFlags::FUSE_BIG_WRITES,
];

/// Asks for what makes the mount fast; it works without, too.
pub(super) fn negotiate(config: &mut KernelConfig) {
    for capability in CAPABILITIES {
        if config.add_capabilities(capability).is_err() {
            log::info!("this kernel's FUSE lacks {capability:?}");
        }
    }
    let _ = config.set_max_write(MAX_TRANSFER);
    if let Err(most) = config.set_max_readahead(MAX_TRANSFER) {
        let _ = config.set_max_readahead(most);
    }
}
