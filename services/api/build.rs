//! Generates the services' traits and clients, and the descriptors of everything, from the protocol's files. The messages
//! are the protocol's own.

use std::{env, error::Error, fs, path::Path};

use prost::Message;

const PROTO: &str = "../../protocol/proto";

/// The files with services, and those whose messages only travel inside others: reflection tells of these too.
const PROTO_FILES: [&str; 6] = [
    "zonecast/auth/v1/auth.proto",
    "zonecast/changes/v1/changes.proto",
    "zonecast/characters/v1/characters.proto",
    "zonecast/directory/v1/directory.proto",
    "zonecast/rpc/v1/rpc.proto",
    "zonecast/users/v1/users.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed={PROTO}");
    let descriptors = protox::compile(PROTO_FILES, [PROTO])?;
    let out = env::var_os("OUT_DIR").ok_or("cargo names no OUT_DIR")?;
    fs::write(Path::new(&out).join("descriptors.bin"), descriptors.encode_to_vec())?;

    let mut build = tonic_prost_build::configure();
    for package in descriptors.file.iter().map(|file| file.package().to_owned()) {
        if let Some(inside) = package.strip_prefix("zonecast.") {
            let module = format!("::zonecast_protocol::{}", inside.replace('.', "::"));
            build = build.extern_path(format!(".{package}"), module);
        }
    }
    build.compile_fds(descriptors)?;
    Ok(())
}
