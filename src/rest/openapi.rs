//! The description of the API, `OpenAPI` 3.1, from the same descriptors as the gateway itself.

mod comments;
mod schema;

use std::collections::BTreeMap;

use prost_reflect::{DescriptorPool, FieldDescriptor, Kind, MessageDescriptor, MethodDescriptor};
use serde_json::{Map, Value as Json, json};

use self::comments::Comments;
use self::schema::Schemas;
use super::binding::{Binding, Body, leaf, ours};
use super::gateway::PREFIX;

/// What every operation can answer instead.
const ERROR: &str = "#/components/responses/Error";

/// Describes some bindings, those of `services`.
pub fn document(pool: &DescriptorPool, services: &[&str], bindings: &[Binding]) -> Json {
    let comments = Comments::new(pool);
    let mut schemas = Schemas::new(&comments);
    let mut paths: BTreeMap<&str, Map<String, Json>> = BTreeMap::new();
    let mut times: BTreeMap<&str, usize> = BTreeMap::new();
    for binding in bindings {
        let time = times.entry(binding.call.full_name()).or_default();
        *time += 1;
        let id = match time {
            1 => binding.call.name().to_owned(),
            time => format!("{}_{time}", binding.call.name()),
        };
        let operation = operation(pool, binding, id, &comments, &mut schemas);
        let verb = binding.verb.as_str().to_lowercase();
        paths
            .entry(&binding.template)
            .or_default()
            .insert(verb, operation);
    }
    let tags = services.iter().filter_map(|name| {
        let service = pool.get_service_by_name(name)?;
        let description = comments.of(service.parent_file().name(), service.path());
        Some(json!({"name": service.name(), "description": description}))
    });
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Communication Service",
            "version": env!("CARGO_PKG_VERSION"),
            "description": format!("The calls of the gRPC services under `{PREFIX}`. Fields are spelled as here or in camelCase; unknown ones are refused. Enum values are the words listed here, or the proto's names. Numbers of 64 bits are texts. An update clears what its body has as null, and leaves what it does not name."),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{"bearer": []}],
        "tags": tags.collect::<Vec<_>>(),
        "paths": paths,
        "components": {
            "schemas": schemas.finish(),
            "responses": {"Error": {
                "description": "A refusal; `code` repeats the HTTP status.",
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
            }},
            "securitySchemes": {"bearer": {
                "type": "http",
                "scheme": "bearer",
                "bearerFormat": "JWT",
                "description": "Needed unless the server is for development, on its own machine.",
            }},
        },
    })
}

fn operation(
    pool: &DescriptorPool,
    binding: &Binding,
    id: String,
    comments: &Comments,
    schemas: &mut Schemas<'_>,
) -> Json {
    let call = &binding.call;
    let mut description = comments
        .of(call.parent_file().name(), call.path())
        .to_owned();
    let summary = description.lines().next().unwrap_or_default().to_owned();
    if let Some(scope) = scope(pool, call) {
        description.push_str(&format!("\n\nNeeds the scope `{scope}`."));
    }
    let mut operation = json!({
        "operationId": id,
        "tags": [call.parent_service().name()],
        "summary": summary,
        "description": description,
        "parameters": parameters(binding, comments, schemas),
        "responses": {
            "200": {
                "description": "The answer.",
                "content": {"application/json": {"schema": schemas.message(&call.output())}},
            },
            "default": {"$ref": ERROR},
        },
    });
    let content = |schema: Json| json!({"content": {"application/json": {"schema": schema}}});
    match &binding.body {
        Body::None => {}
        Body::Field(field) => operation["requestBody"] = content(schemas.field(field)),
        Body::Whole => {
            let name = format!("{}Body", call.name());
            let schema = schemas.body(&name, &call.input(), &binding.segments);
            operation["requestBody"] = content(schema);
        }
    }
    operation
}

fn parameters(binding: &Binding, comments: &Comments, schemas: &mut Schemas<'_>) -> Vec<Json> {
    let input = binding.call.input();
    let describe = |field: &FieldDescriptor| {
        comments
            .of(input_file(field).as_str(), field.path())
            .to_owned()
    };
    let mut parameters = Vec::new();
    for name in &binding.segments {
        let Some(field) = leaf(&input, name) else {
            continue;
        };
        parameters.push(json!({
            "name": name,
            "in": "path",
            "required": true,
            "description": describe(&field),
            "schema": schemas.field(&field),
        }));
    }
    if binding.body == Body::Whole {
        return parameters;
    }
    let mut query = Vec::new();
    queried(&input, "", &mut query);
    for (name, field) in query {
        let in_body = matches!(&binding.body, Body::Field(body) if body.name() == name);
        if in_body || binding.segments.contains(&name) {
            continue;
        }
        parameters.push(json!({
            "name": name,
            "in": "query",
            "description": describe(&field),
            "schema": schemas.field(&field),
        }));
    }
    parameters
}

/// The fields that a query can have.
fn queried(message: &MessageDescriptor, path: &str, into: &mut Vec<(String, FieldDescriptor)>) {
    for field in message.fields() {
        let name = format!("{path}{}", field.name());
        let kind = field.kind();
        let own = ["Timestamp", "Duration", "FieldMask"];
        match &kind {
            _ if field.is_map() => {}
            Kind::Message(inner) => match ours(&kind) {
                Some(inner) if !field.is_list() => queried(inner, &format!("{name}."), into),
                None if own.contains(&inner.name()) => into.push((name, field)),
                Some(_) | None => {}
            },
            _ => into.push((name, field)),
        }
    }
}

fn input_file(field: &FieldDescriptor) -> String {
    field.parent_message().parent_file().name().to_owned()
}

/// The scope of a call, as credentials spell it.
fn scope(pool: &DescriptorPool, call: &MethodDescriptor) -> Option<String> {
    let extension = pool.get_extension_by_name("communication.v1.scope")?;
    let number = call.options().get_extension(&extension).as_enum_number()?;
    let kind = extension.kind();
    let value = kind.as_enum()?.get_value(number)?;
    let word = super::short_name::short_name(&value);
    let (noun, verb) = word.rsplit_once('_')?;
    Some(format!("{noun}.{verb}"))
}
