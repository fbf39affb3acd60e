//! The `ringway` command, without plugins. A gateway with plugins is this file with a registry that has them.

use std::process::ExitCode;

use ringway::plugin::Registry;

#[global_allocator]
static ALLOCATOR: ringway::Allocator = ringway::Allocator;

fn main() -> ExitCode {
    ringway::run(Registry::new())
}
