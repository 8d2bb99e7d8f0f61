//! Code generated from `proto/`, and the descriptors that it was generated from.

#![expect(
    clippy::allow_attributes,
    clippy::doc_markdown,
    clippy::large_enum_variant,
    reason = "generated; the proto comments are its reference"
)]

tonic::include_proto!("communication.v1");

include!(concat!(env!("OUT_DIR"), "/calls.rs"));

/// The file descriptor set, with comments and options.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// The same without comments, which take more memory than all else.
pub const BARE_DESCRIPTORS: &[u8] =
    include_bytes!(concat!(env!("OUT_DIR"), "/bare_descriptors.bin"));
