//! Generates the message types from `proto/`, without a protoc to install.

use std::error::Error;

const PROTO_FILES: [&str; 10] = [
    "proto/zonecast/auth/v1/auth.proto",
    "proto/zonecast/changes/v1/changes.proto",
    "proto/zonecast/characters/v1/characters.proto",
    "proto/zonecast/directory/v1/directory.proto",
    "proto/zonecast/rpc/v1/rpc.proto",
    "proto/zonecast/users/v1/users.proto",
    "proto/zonecast/v1/error.proto",
    "proto/zonecast/v1/event.proto",
    "proto/zonecast/v1/frame.proto",
    "proto/zonecast/v1/interest.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(PROTO_FILES, ["proto"])?;
    prost_build::Config::new().bytes(["."]).enable_type_names().compile_fds(descriptors)?;
    Ok(())
}
