//! Calls by REST, as their annotations say, and JSON in the spellings that REST has: written apart
//! from the gateway, so that the two can differ.

use prost_reflect::{DynamicMessage, Kind, MessageDescriptor, SerializeOptions};
use serde_json::{Map, Value as Json};

use super::Method;
use super::server::{Answer, TestServer, exchange};

/// One way to make a call by REST.
#[derive(Debug, Clone)]
pub struct Binding {
    /// The HTTP method.
    pub verb: String,
    /// The path, with fields in braces.
    pub template: String,
    /// Whether the fields that the path leaves are in the body, instead of in the query.
    pub in_body: bool,
}

impl Binding {
    /// The bindings of a method.
    pub fn of(method: &Method) -> Vec<Self> {
        let descriptor = method.descriptor();
        let pool = descriptor.parent_pool();
        let http = pool.get_extension_by_name("google.api.http").unwrap();
        let options = descriptor.options();
        if !options.has_extension(&http) {
            return Vec::new();
        }
        let first = options.get_extension(&http);
        let first = first.as_message().unwrap();
        let more = first.get_field_by_name("additional_bindings").unwrap();
        let more = more.as_list().unwrap().iter();
        let more = more.map(|rule| rule.as_message().unwrap());
        std::iter::once(first).chain(more).map(Self::read).collect()
    }

    fn read(rule: &DynamicMessage) -> Self {
        let text = |name: &str| {
            rule.get_field_by_name(name)
                .unwrap()
                .as_str()
                .unwrap()
                .to_owned()
        };
        let verbs = ["get", "put", "post", "delete", "patch"];
        let verb = verbs.iter().find(|verb| !text(verb).is_empty()).unwrap();
        let body = text("body");
        assert!(["", "*"].contains(&body.as_str()), "{body}");
        Self {
            verb: verb.to_uppercase(),
            template: text(verb),
            in_body: body == "*",
        }
    }

    /// The fields in its path.
    pub fn segments(&self) -> Vec<&str> {
        let fields = self.template.split('/');
        let fields = fields.filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'));
        fields.collect()
    }

    /// Makes a call of an object, whose fields are named as in the proto.
    pub async fn call(
        &self,
        server: &TestServer,
        request: &Json,
        headers: &[(&str, &str)],
    ) -> Answer {
        let mut rest: Map<String, Json> = request.as_object().unwrap().clone();
        let mut path = self.template.clone();
        for name in self.segments() {
            let value = rest.remove(name).unwrap_or(Json::String(String::new()));
            path = path.replace(&format!("{{{name}}}"), &encoded(&plain(&value)));
        }
        let mut headers = headers.to_vec();
        let mut body = String::new();
        if self.in_body {
            headers.push(("content-type", "application/json"));
            body = Json::Object(rest).to_string();
        } else {
            let mut parameters = Vec::new();
            flatten("", &rest, &mut parameters);
            if !parameters.is_empty() {
                path = format!("{path}?{}", parameters.join("&"));
            }
        }
        let answer = exchange(server.http, &self.verb, &path, &headers, body.as_bytes()).await;
        answer.unwrap_or_else(|| panic!("no answer to {} {path}", self.verb))
    }
}

fn plain(value: &Json) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), ToOwned::to_owned)
}

fn flatten(prefix: &str, object: &Map<String, Json>, into: &mut Vec<String>) {
    for (name, value) in object {
        let name = format!("{prefix}{name}");
        match value {
            Json::Object(object) => flatten(&format!("{name}."), object, into),
            Json::Array(values) => {
                let values = values.iter();
                into.extend(values.map(|value| format!("{name}={}", encoded(&plain(value)))));
            }
            value => into.push(format!("{name}={}", encoded(&plain(value)))),
        }
    }
}

fn encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

/// A message as canonical JSON.
pub fn camel(message: &DynamicMessage) -> Json {
    serde_json::to_value(message).unwrap()
}

/// A message as REST has it: names as in the proto, words for enum values.
pub fn short(message: &DynamicMessage) -> Json {
    let options = SerializeOptions::new().use_proto_field_name(true);
    let json = message.serialize_with_options(serde_json::value::Serializer, &options);
    let mut json = json.unwrap();
    respell(
        &prost_reflect::ReflectMessage::descriptor(message),
        &mut json,
        &|prefix, word| word.strip_prefix(prefix).unwrap_or(word).to_lowercase(),
    );
    json
}

/// The message that an answer of REST stands for. Its words must be the short ones.
pub fn canonical(descriptor: &MessageDescriptor, json: &Json) -> DynamicMessage {
    let mut json = json.clone();
    respell(descriptor, &mut json, &|prefix, word| {
        assert_eq!(word, word.to_lowercase());
        format!("{prefix}{}", word.to_uppercase())
    });
    DynamicMessage::deserialize(descriptor.clone(), &json)
        .unwrap_or_else(|error| panic!("no {}: {error}: {json}", descriptor.name()))
}

/// Spells the enum values anew, by the prefix that those of one enum share.
fn respell(message: &MessageDescriptor, json: &mut Json, spell: &dyn Fn(&str, &str) -> String) {
    let Json::Object(object) = json else { return };
    if message.package_name() != "communication.v1" {
        return;
    }
    for (name, value) in object {
        let field = message.get_field_by_name(name);
        let field = field.unwrap_or_else(|| panic!("{} has no {name}", message.name()));
        if field.is_map() {
            continue;
        }
        let values: Vec<&mut Json> = match value {
            Json::Array(values) => values.iter_mut().collect(),
            value => vec![value],
        };
        for value in values {
            match (field.kind(), &mut *value) {
                (Kind::Enum(values), Json::String(word)) => {
                    let zero = values.get_value(0).unwrap();
                    let prefix = zero.name().strip_suffix("UNSPECIFIED").unwrap();
                    *word = spell(prefix, word);
                }
                (Kind::Message(inner), value) => respell(&inner, value, spell),
                _ => {}
            }
        }
    }
}
