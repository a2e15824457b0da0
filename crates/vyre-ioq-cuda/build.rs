//! Finds out whether there is prebuilt PTX to put into the crate.

fn main() {
    println!("cargo::rustc-check-cfg=cfg(prebuilt_ptx)");
    println!("cargo::rerun-if-changed=ptx");
    if std::path::Path::new("ptx/bench.ptx").is_file() {
        println!("cargo::rustc-cfg=prebuilt_ptx");
    }
}
