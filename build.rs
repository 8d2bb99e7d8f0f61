//! Compiles `proto/` without protoc, and gives each request type what the doors ask of it: the
//! scope that its call needs, the field that names its tenant, the field that makes it repeatable.

use std::error::Error;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, MethodDescriptor, Value};

const PACKAGE: &str = "communication.v1";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    println!("cargo:rerun-if-changed=migrations");
    let out = PathBuf::from(env::var("OUT_DIR")?);

    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_imports(true).include_source_info(true);
    compiler.open_files(proto_files(Path::new("proto/communication/v1"))?)?;
    // The compiler's own encoding keeps custom options and comments; a re-encoded prost struct
    // would lose both, for reflection too.
    let bytes = compiler.encode_file_descriptor_set();
    let pool = DescriptorPool::decode(bytes.as_slice())?;
    let commented = with_places(&pool, &bytes, is_commented)?;
    fs::write(out.join("descriptors.bin"), commented)?;
    let bare = with_places(&pool, &bytes, |_| false)?;
    fs::write(out.join("bare_descriptors.bin"), bare)?;

    fs::write(out.join("calls.rs"), calls(&pool)?)?;

    tonic_prost_build::configure()
        // A request is hashed by its encoding, which must not depend on the order in a hash map.
        .btree_map(".")
        .codec_path("crate::codec::Codec")
        // With events that are encoded already: one that many hear is encoded once.
        .extern_path(".communication.v1.Batch", "crate::event::Batch")
        .compile_fds(prost_types::FileDescriptorSet::decode(bytes.as_slice())?)?;
    Ok(())
}

/// The descriptor set with some of its places in the source: every name has one, and one in seven a
/// comment, which is what they are kept for.
fn with_places(
    pool: &DescriptorPool,
    bytes: &[u8],
    is_kept: fn(&Value) -> bool,
) -> Result<Vec<u8>, Box<dyn Error>> {
    let set = pool.get_message_by_name("google.protobuf.FileDescriptorSet");
    let set = set.ok_or("no proto file imports google/protobuf/descriptor.proto")?;
    let mut set = DynamicMessage::decode(set, bytes)?;
    let files = set.get_field_by_name_mut("file");
    for file in files.and_then(Value::as_list_mut).into_iter().flatten() {
        let Some(file) = file.as_message_mut() else {
            continue;
        };
        let source = file.get_field_by_name_mut("source_code_info");
        let source = source.and_then(Value::as_message_mut);
        let places = source.and_then(|source| source.get_field_by_name_mut("location"));
        if let Some(places) = places.and_then(Value::as_list_mut) {
            places.retain(is_kept);
        }
    }
    Ok(set.encode_to_vec())
}

fn is_commented(place: &Value) -> bool {
    let comments = [
        "leading_comments",
        "trailing_comments",
        "leading_detached_comments",
    ];
    place.as_message().is_some_and(|place| {
        let mut comments = comments.iter();
        comments.any(|comment| place.has_field_by_name(comment))
    })
}

fn proto_files(folder: &Path) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "proto")
        {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Writes `impl Call` for each request, `InTenant` for those with a tenant, `Repeatable` for those
/// with a request id, and the list of all calls. A call without a scope ends the build.
fn calls(pool: &DescriptorPool) -> Result<String, Box<dyn Error>> {
    let mut code = String::new();
    let mut list = String::new();
    let mut streams = String::new();
    for service in pool
        .services()
        .filter(|service| service.package_name() == PACKAGE)
    {
        for method in service.methods() {
            let scope = scope(pool, &method)?;
            let request = method.input().name().to_owned();
            let path = format!("/{}/{}", service.full_name(), method.name());
            writeln!(
                code,
                "impl crate::access::Call for {request} {{\n    const PATH: &'static str = {path:?};\n    const SCOPE: crate::access::Scope = crate::access::Scope::{scope};\n}}"
            )?;
            if method.is_client_streaming() {
                writeln!(streams, "    {path:?},")?;
            }
            writeln!(list, "    ({path:?}, crate::access::Scope::{scope}),")?;
            let admin = service.name() == "TenantAdminService";
            if let Some(field) = method
                .input()
                .get_field_by_name("tenant")
                .filter(|_| !admin)
            {
                if field.number() != 1 {
                    return Err(format!("{request}.tenant must be field 1").into());
                }
                let actor = match method.input().get_field_by_name("actor") {
                    Some(_) => "self.actor.clone()",
                    None => "None",
                };
                let unrestricted = match method.input().get_field_by_name("unrestricted") {
                    Some(_) => "self.unrestricted",
                    None => "false",
                };
                writeln!(
                    code,
                    "impl crate::tenant::InTenant for {request} {{\n    fn tenant(&self) -> &str {{\n        &self.tenant\n    }}\n\n    fn actor(&self) -> Option<Actor> {{\n        {actor}\n    }}\n\n    fn unrestricted(&self) -> bool {{\n        {unrestricted}\n    }}\n}}"
                )?;
            } else if !admin {
                return Err(format!("{request} must name its tenant in field 1").into());
            }
            if method.input().get_field_by_name("request_id").is_some() {
                writeln!(
                    code,
                    "impl crate::request_id::Repeatable for {request} {{\n    fn take_request_id(&mut self) -> String {{\n        std::mem::take(&mut self.request_id)\n    }}\n}}"
                )?;
            }
        }
    }
    writeln!(
        code,
        "/// Every call of this service: its path and the scope that it needs.\npub const CALLS: &[(&str, crate::access::Scope)] = &[\n{list}];\n\n/// The calls whose requests are streams.\npub const STREAMS: &[&str] = &[\n{streams}];"
    )?;
    Ok(code)
}

/// Reads the option `scope` of a call and turns `SCOPE_INBOX_READ` into `InboxRead`.
fn scope(pool: &DescriptorPool, method: &MethodDescriptor) -> Result<String, Box<dyn Error>> {
    let missing = || format!("{} declares no scope", method.full_name());
    let extension = pool
        .get_extension_by_name("communication.v1.scope")
        .ok_or("options.proto has lost its extension `scope`")?;
    let options = method.options();
    let Value::EnumNumber(number) = *options.get_extension(&extension) else {
        return Err(missing().into());
    };
    let kind = extension.kind();
    let value = kind
        .as_enum()
        .and_then(|scopes| scopes.get_value(number))
        .filter(|value| value.number() != 0)
        .ok_or_else(missing)?;
    let words = value.name().trim_start_matches("SCOPE_").split('_');
    Ok(words
        .map(|word| {
            let (first, rest) = word.split_at(1);
            first.to_owned() + &rest.to_lowercase()
        })
        .collect())
}
