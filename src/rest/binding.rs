//! Which calls are offered where: the `google.api.http` annotations, read once.

use http::Method;
use http::uri::PathAndQuery;
use prost_reflect::{
    DescriptorError, DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MessageDescriptor,
    MethodDescriptor,
};

use super::gateway::PREFIX;

/// The verbs, as the annotations spell them.
const VERBS: [(&str, Method); 5] = [
    ("get", Method::GET),
    ("put", Method::PUT),
    ("post", Method::POST),
    ("delete", Method::DELETE),
    ("patch", Method::PATCH),
];

/// Why the annotations of this binary are not in order.
#[derive(Debug, thiserror::Error)]
pub enum BindingError {
    /// The descriptors themselves.
    #[error("the descriptors cannot be read")]
    Descriptors(#[from] DescriptorError),
    /// An annotation.
    #[error("the REST binding of {call} is wrong: {why}")]
    Annotation {
        /// The call.
        call: String,
        /// What is wrong.
        why: String,
    },
}

/// One way to make a call by REST.
pub struct Binding {
    /// The HTTP method.
    pub verb: Method,
    /// The path as annotated, with fields in braces.
    pub template: String,
    /// The fields that its segments fill, in order.
    pub segments: Vec<String>,
    /// What the body of the request holds.
    pub body: Body,
    /// The call.
    pub call: MethodDescriptor,
    /// The call's path by gRPC.
    pub grpc: PathAndQuery,
}

/// What the body of a request holds.
#[derive(Clone, PartialEq)]
pub enum Body {
    /// Nothing: what the path leaves is in the query.
    None,
    /// All that the path leaves.
    Whole,
    /// One field.
    Field(FieldDescriptor),
}

impl Binding {
    /// Reads the bindings of some services, in the order of the descriptors. What streams has none.
    ///
    /// # Errors
    /// An annotation says what this gateway cannot do.
    pub fn all(pool: &DescriptorPool, services: &[&str]) -> Result<Vec<Self>, BindingError> {
        let mut all = Vec::new();
        for service in services {
            let service = pool
                .get_service_by_name(service)
                .ok_or_else(|| wrong(service, "there is no such service"))?;
            for call in service.methods() {
                for rule in rules(pool, &call)? {
                    all.push(Self::read(&call, &rule)?);
                }
            }
        }
        Ok(all)
    }

    /// Binds a call that streams its answer to a path at which it is read by WebSocket.
    ///
    /// # Errors
    /// There is no such call, or the path is wrong.
    pub fn socket(pool: &DescriptorPool, name: &str, path: &str) -> Result<Self, BindingError> {
        let call = name.rsplit_once('.').and_then(|(service, call)| {
            let service = pool.get_service_by_name(service)?;
            service.methods().find(|method| method.name() == call)
        });
        let call = call.ok_or_else(|| wrong(name, "there is no such call"))?;
        Self::at(&call, Method::GET, path.to_owned(), Body::None)
    }

    fn read(call: &MethodDescriptor, rule: &DynamicMessage) -> Result<Self, BindingError> {
        let wrong = |why: &str| wrong(call.full_name(), why);
        if call.is_client_streaming() || call.is_server_streaming() {
            return Err(wrong("it streams"));
        }
        let (verb, template) = VERBS
            .iter()
            .find_map(|(name, verb)| Some((verb.clone(), text(rule, name)?)))
            .ok_or_else(|| wrong("it has no verb"))?;
        if !template.starts_with(&format!("{PREFIX}/")) {
            return Err(wrong("its path is outside the API"));
        }
        if text(rule, "response_body").is_some() {
            return Err(wrong("it picks a field of the answer"));
        }
        let body = match text(rule, "body").as_deref() {
            None => Body::None,
            Some("*") => Body::Whole,
            Some(name) => Body::Field(
                call.input()
                    .get_field_by_name(name)
                    .ok_or_else(|| wrong("its body is no field"))?,
            ),
        };
        Self::at(call, verb, template, body)
    }

    fn at(
        call: &MethodDescriptor,
        verb: Method,
        template: String,
        body: Body,
    ) -> Result<Self, BindingError> {
        let wrong = |why: &str| wrong(call.full_name(), why);
        let input = call.input();
        let mut segments = Vec::new();
        for segment in template.split('/') {
            if let Some(field) = segment.strip_prefix('{') {
                let field = field
                    .strip_suffix('}')
                    .filter(|path| leaf(&input, path).is_some_and(|leaf| is_segment(&leaf)))
                    .ok_or_else(|| wrong("a segment of its path is no field"))?;
                segments.push(field.to_owned());
            } else if segment.contains(['{', '}', '*', ':']) {
                return Err(wrong("its path has more than fields and words"));
            }
        }
        let path = format!("/{}/{}", call.parent_service().full_name(), call.name());
        let grpc = PathAndQuery::try_from(path).map_err(|error| wrong(&error.to_string()))?;
        Ok(Self {
            verb,
            template,
            segments,
            body,
            call: call.clone(),
            grpc,
        })
    }
}

/// The rules of a call: the first, and those beside it.
fn rules(
    pool: &DescriptorPool,
    call: &MethodDescriptor,
) -> Result<Vec<DynamicMessage>, BindingError> {
    let http = pool
        .get_extension_by_name("google.api.http")
        .ok_or_else(|| wrong(call.full_name(), "annotations.proto is missing"))?;
    let options = call.options();
    if !options.has_extension(&http) {
        return Ok(Vec::new());
    }
    let first = options.get_extension(&http);
    let Some(first) = first.as_message() else {
        return Ok(Vec::new());
    };
    let more = first.get_field_by_name("additional_bindings");
    let more = more.as_ref().and_then(|more| more.as_list());
    let more = more.unwrap_or_default().iter();
    let more = more.filter_map(|rule| rule.as_message().cloned());
    Ok(std::iter::once(first.clone()).chain(more).collect())
}

fn text(rule: &DynamicMessage, field: &str) -> Option<String> {
    let text = rule.get_field_by_name(field)?;
    let text = text.as_str()?;
    (!text.is_empty()).then(|| text.to_owned())
}

/// What is wrong with the annotation of a call.
pub fn wrong(call: &str, why: &str) -> BindingError {
    BindingError::Annotation {
        call: call.to_owned(),
        why: why.to_owned(),
    }
}

fn is_segment(field: &FieldDescriptor) -> bool {
    !field.is_list() && !field.is_map() && !matches!(field.kind(), Kind::Message(_))
}

/// The field of a name, the proto's own or the one that JSON has by custom.
pub fn field(message: &MessageDescriptor, name: &str) -> Option<FieldDescriptor> {
    message
        .get_field_by_name(name)
        .or_else(|| message.get_field_by_json_name(name))
}

/// The field that a path such as `actor.user_id` leads to, through messages of ours.
pub fn leaf(message: &MessageDescriptor, path: &str) -> Option<FieldDescriptor> {
    match path.split_once('.') {
        None => field(message, path),
        Some((name, rest)) => match field(message, name)? {
            through if through.is_list() || through.is_map() => None,
            through => leaf(ours(&through.kind())?, rest),
        },
    }
}

/// The message that a field holds, unless JSON has a form of its own for it.
pub fn ours(kind: &Kind) -> Option<&MessageDescriptor> {
    kind.as_message()
        .filter(|message| message.package_name() != "google.protobuf")
}
