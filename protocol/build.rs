//! Generates the message types from `proto/`, without a protoc to install.

use std::error::Error;

const PROTO_FILES: [&str; 4] = [
    "proto/zonecast/v1/error.proto",
    "proto/zonecast/v1/event.proto",
    "proto/zonecast/v1/frame.proto",
    "proto/zonecast/v1/interest.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(PROTO_FILES, ["proto"])?;
    prost_build::Config::new().bytes(["."]).compile_fds(descriptors)?;
    Ok(())
}
