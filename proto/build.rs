//! Compiles the schema with protox, so that no `protoc` is needed. `bytes` fields become `bytes::Bytes`:
//! decoding a blob from `Bytes` takes a reference and copies nothing.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = [
        "edgelogger/v1/stream.proto",
        "edgelogger/v1/wire.proto",
        "edgelogger/v1/log.proto",
        "edgelogger/v1/spool.proto",
    ];
    for file in files {
        println!("cargo::rerun-if-changed={file}");
    }
    let descriptors = protox::compile(files, ["."])?;
    prost_build::Config::new()
        .bytes(["."])
        .btree_map(["."])
        .compile_fds(descriptors)?;
    Ok(())
}
