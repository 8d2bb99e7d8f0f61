//! `call`: any method as JSON, for who has no grpcurl.

use std::error::Error;
use std::io::{ErrorKind, Read as _, Write as _};

use clap::Args;
use prost_reflect::{DynamicMessage, MethodDescriptor, SerializeOptions};
use serde_json::{Map, Value as Json};
use tonic::Status;

use super::client::{ClientArgs, ClientError, descriptors};
use crate::field::Fields;
use crate::rest;

/// What `call` takes.
#[derive(Debug, Args)]
pub struct CallArgs {
    #[command(flatten)]
    client: ClientArgs,
    /// The method, as `InboxService/ListConversations`; left out: list all methods
    method: Option<String>,
    /// The request as JSON; `-` reads it from standard input
    #[arg(default_value = "{}")]
    request: String,
}

/// Calls a method, or lists them all.
pub async fn run(args: CallArgs) -> Result<(), Box<dyn Error>> {
    let pool = descriptors()?;
    let methods: Vec<MethodDescriptor> = pool.services().flatten_methods().collect();
    let Some(wanted) = &args.method else {
        for method in methods {
            let line = format!("{}/{}", method.parent_service().name(), method.name());
            if !tell(&line)? {
                break;
            }
        }
        return Ok(());
    };
    let method = methods
        .into_iter()
        .find(|method| {
            let service = method.parent_service();
            let short = format!("{}/{}", service.name(), method.name());
            let full = format!("{}/{}", service.full_name(), method.name());
            *wanted == short || wanted.trim_start_matches('/') == full
        })
        .ok_or_else(|| format!("there is no method `{wanted}`; `call` without one lists them"))?;
    let json = if args.request == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text)?;
        text
    } else {
        args.request
    };
    let input = method.input();
    let object: Map<String, Json> = serde_json::from_str(&json)
        .map_err(|error| format!("the request is no JSON object: {error}"))?;
    let mut fields = Fields::default();
    let request = rest::read(&input, &object, "", &mut fields);
    fields
        .finish()
        .map_err(|error| format!("the request is no {}: {error}", input.name()))?;
    let client = args.client.connect().await?;
    let answered = async {
        let mut messages = client.call(&method, request).await?;
        while let Some(message) = messages.message().await.map_err(ClientError::from)? {
            if !tell(&to_json(&message)?)? {
                break;
            }
        }
        Ok::<_, Box<dyn Error>>(())
    };
    answered.await.inspect_err(|error| {
        if let Some(ClientError::Status { status }) = error.downcast_ref() {
            explain(status);
        }
    })
}

/// Writes a line; tells whether anybody reads on, which `head` does not.
fn tell(line: &str) -> std::io::Result<bool> {
    match writeln!(std::io::stdout(), "{line}") {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        written => written.map(|()| true),
    }
}

/// All methods of some services.
trait Methods {
    fn flatten_methods(self) -> impl Iterator<Item = MethodDescriptor>;
}

impl<I: Iterator<Item = prost_reflect::ServiceDescriptor>> Methods for I {
    fn flatten_methods(self) -> impl Iterator<Item = MethodDescriptor> {
        self.flat_map(|service| service.methods().collect::<Vec<_>>())
    }
}

fn to_json(message: &DynamicMessage) -> Result<String, serde_json::Error> {
    let mut out = Vec::new();
    let mut writer = serde_json::Serializer::pretty(&mut out);
    let options = SerializeOptions::new().use_proto_field_name(true);
    message.serialize_with_options(&mut writer, &options)?;
    Ok(String::from_utf8_lossy(&out).into_owned())
}

/// Shows what an error carries beside its message.
fn explain(status: &Status) {
    use tonic_types::StatusExt as _;
    let details = status.get_error_details();
    if let Some(info) = details.error_info() {
        eprintln!("reason: {}", info.reason);
    }
    for violation in details
        .bad_request()
        .into_iter()
        .flat_map(|bad| &bad.field_violations)
    {
        eprintln!("field {}: {}", violation.field, violation.description);
    }
    if let Some(id) = status
        .metadata()
        .get("x-request-id")
        .and_then(|id| id.to_str().ok())
    {
        eprintln!("correlation id: {id}");
    }
}
