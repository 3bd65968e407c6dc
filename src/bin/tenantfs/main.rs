//! The `tenantfs` command.
fn main() {}
