//! Gives the shared library the name that programs record: `libvyre_io.so.0.1` while the version is 0.1.x, and
//! `libvyre_io.so.1` from 1.0 on. cargo-c gives it the same one.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let part = |name| std::env::var(name).unwrap_or_default();
    let (major, minor) = (
        part("CARGO_PKG_VERSION_MAJOR"),
        part("CARGO_PKG_VERSION_MINOR"),
    );
    let suffix = if major == "0" {
        format!("0.{minor}")
    } else {
        major
    };
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libvyre_io.so.{suffix}");
}
