#![doc = include_str!("../README.md")]
#![doc(html_root_url = "https://docs.rs/vyre-io-client/latest")]
#![deny(missing_docs)]

pub mod protocol;
