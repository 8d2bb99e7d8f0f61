//! Calls by description: every method of the descriptors, its fields, and requests made of JSON.

use communication_service::pb::DESCRIPTORS;
use prost::Message as _;
use prost::bytes::{Buf as _, BufMut as _, Bytes};
use prost_reflect::{
    Cardinality, DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MessageDescriptor,
    MethodDescriptor, Value,
};
use serde_json::Value as Json;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::metadata::MetadataMap;
use tonic::transport::Channel;
use tonic::{Request, Status};

/// Bytes on both sides of a call.
#[derive(Clone, Copy)]
struct RawCodec;

impl Codec for RawCodec {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}

/// Sends bytes as the one message of a call, and returns the first message of the answer.
pub async fn call_raw(
    channel: &Channel,
    path: &str,
    message: impl Into<Bytes>,
    metadata: &MetadataMap,
) -> Result<Bytes, Status> {
    let mut grpc = tonic::client::Grpc::new(channel.clone());
    grpc.ready().await.unwrap();
    let mut request = Request::new(message.into());
    *request.metadata_mut() = metadata.clone();
    let answer = grpc
        .server_streaming(request, path.parse().unwrap(), RawCodec)
        .await?;
    let (headers, mut stream, _) = answer.into_parts();
    match stream.message().await {
        Ok(message) => Ok(message.expect("a message or a refusal")),
        Err(mut status) => {
            // What came with the headers belongs to the refusal, whenever that was decided.
            for (name, value) in headers.into_headers() {
                if let (Some(name), Ok(value)) = (name, value.to_str())
                    && let Ok(value) = value.parse()
                {
                    let name = tonic::metadata::AsciiMetadataKey::from_bytes(name.as_ref());
                    status.metadata_mut().insert(name.unwrap(), value);
                }
            }
            Err(status)
        }
    }
}

/// One method of the descriptors.
#[derive(Clone)]
pub struct Method(MethodDescriptor);

impl Method {
    /// Every method of this service, in the order of the descriptors.
    pub fn all() -> Vec<Self> {
        let pool = DescriptorPool::decode(DESCRIPTORS).unwrap();
        let services: Vec<_> = pool
            .services()
            .filter(|service| service.package_name() == "communication.v1")
            .collect();
        services
            .iter()
            .flat_map(|service| service.methods().map(Self).collect::<Vec<_>>())
            .collect()
    }

    /// The method, without its service.
    pub fn name(&self) -> &str {
        self.0.name()
    }

    /// Where it is called.
    pub fn path(&self) -> String {
        format!("/{}/{}", self.0.parent_service().full_name(), self.0.name())
    }

    /// Tells whether it is about tenants instead of inside one.
    pub fn is_admin(&self) -> bool {
        self.0.parent_service().name() == "TenantAdminService"
    }

    /// The scope that it declares, as credentials spell it.
    pub fn scope(&self) -> String {
        let pool = self.0.parent_pool();
        let extension = pool
            .get_extension_by_name("communication.v1.scope")
            .unwrap();
        let options = self.0.options();
        let number = options.get_extension(&extension).as_enum_number().unwrap();
        scope_word(
            extension
                .kind()
                .as_enum()
                .unwrap()
                .get_value(number)
                .unwrap()
                .name(),
        )
    }

    /// All scopes that there are, as credentials spell them.
    pub fn scopes() -> Vec<String> {
        let pool = DescriptorPool::decode(DESCRIPTORS).unwrap();
        let scopes = pool.get_enum_by_name("communication.v1.Scope").unwrap();
        let values: Vec<_> = scopes
            .values()
            .filter(|value| value.number() != 0)
            .collect();
        values
            .iter()
            .map(|value| scope_word(value.name()))
            .collect()
    }

    /// Every field of the request that a caller can fill, with its path.
    pub fn fields(&self) -> Vec<Field> {
        let mut fields = Vec::new();
        collect(&self.0.input(), &[], &mut fields);
        fields
    }

    /// The field of a path, if the request has it.
    pub fn field(&self, path: &str) -> Option<Field> {
        self.fields().into_iter().find(|field| field.path() == path)
    }

    /// Its description.
    pub fn descriptor(&self) -> &MethodDescriptor {
        &self.0
    }

    /// Makes a request of JSON.
    pub fn request(&self, json: Json) -> DynamicMessage {
        DynamicMessage::deserialize(self.0.input(), json)
            .unwrap_or_else(|error| panic!("no request of {}: {error}", self.name()))
    }

    /// Calls it, and returns the first message of the answer.
    pub async fn call(
        &self,
        channel: &Channel,
        request: &DynamicMessage,
        metadata: &MetadataMap,
    ) -> Result<DynamicMessage, Status> {
        let bytes = call_raw(channel, &self.path(), request.encode_to_vec(), metadata).await?;
        Ok(DynamicMessage::decode(self.0.output(), bytes).unwrap())
    }
}

/// Turns `SCOPE_INBOX_READ` into `inbox.read`.
fn scope_word(name: &str) -> String {
    let word = name.trim_start_matches("SCOPE_").to_lowercase();
    let (noun, verb) = word.rsplit_once('_').unwrap();
    format!("{noun}.{verb}")
}

/// A field of a request, or of a message in it.
#[derive(Clone)]
pub struct Field {
    parents: Vec<FieldDescriptor>,
    leaf: FieldDescriptor,
}

impl Field {
    /// The path, as refusals spell it; where it leads through a list, through its first element.
    pub fn path(&self) -> String {
        let mut path = String::new();
        for parent in &self.parents {
            path.push_str(parent.name());
            path.push_str(if parent.is_list() { "[0]." } else { "." });
        }
        path + self.leaf.name()
    }

    /// The path of its first value: that of an element, where the field has several.
    pub fn value_path(&self) -> String {
        if self.leaf.is_list() {
            format!("{}[0]", self.path())
        } else {
            self.path()
        }
    }

    /// Its own name.
    pub fn name(&self) -> &str {
        self.leaf.name()
    }

    /// Tells whether it holds text.
    pub fn is_text(&self) -> bool {
        matches!(self.leaf.kind(), Kind::String)
    }

    /// Tells whether it holds an enum's value.
    pub fn is_enum(&self) -> bool {
        matches!(self.leaf.kind(), Kind::Enum(_))
    }

    /// Tells whether it holds a fraction.
    pub fn is_fraction(&self) -> bool {
        matches!(self.leaf.kind(), Kind::Double | Kind::Float)
    }

    /// Tells whether it holds a message of a full name.
    pub fn is_message(&self, full_name: &str) -> bool {
        matches!(self.leaf.kind(), Kind::Message(message) if message.full_name() == full_name)
    }

    /// Tells whether it names something: things of ours, of others, requests and pages.
    pub fn is_id(&self) -> bool {
        let name = self.name();
        self.is_text()
            && (name == "id"
                || name.ends_with("_id")
                || name.ends_with("_ids")
                || name == "page_token")
    }

    /// Puts a value into a request; in the place of all values, where the field has several.
    pub fn set(&self, request: &mut DynamicMessage, value: Value) {
        let value = if self.leaf.cardinality() == Cardinality::Repeated
            && !matches!(value, Value::List(_))
        {
            Value::List(vec![value])
        } else {
            value
        };
        let mut message = request;
        for parent in &self.parents {
            let inner = message.get_field_mut(parent);
            if !parent.is_list() {
                message = inner.as_message_mut().unwrap();
                continue;
            }
            let elements = inner.as_list_mut().unwrap();
            if elements.is_empty() {
                let kind = parent.kind();
                let empty = DynamicMessage::new(kind.as_message().unwrap().clone());
                elements.push(Value::Message(empty));
            }
            message = elements[0].as_message_mut().unwrap();
        }
        message.set_field(&self.leaf, value);
    }

    /// Puts a text into a copy of a request.
    pub fn with_text(&self, request: &DynamicMessage, text: &str) -> DynamicMessage {
        let mut request = request.clone();
        self.set(&mut request, Value::String(text.to_owned()));
        request
    }

    /// Makes the message that the field holds, of JSON.
    pub fn message(&self, json: Json) -> Value {
        let kind = self.leaf.kind();
        let descriptor = kind.as_message().unwrap().clone();
        Value::Message(DynamicMessage::deserialize(descriptor, json).unwrap())
    }

    /// Makes an empty message of the kind that the field holds.
    pub fn empty(&self) -> DynamicMessage {
        DynamicMessage::new(self.leaf.kind().as_message().unwrap().clone())
    }
}

fn collect(message: &MessageDescriptor, parents: &[FieldDescriptor], into: &mut Vec<Field>) {
    for leaf in message.fields() {
        let inner = match leaf.kind() {
            Kind::Message(inner)
                if inner.package_name() == "communication.v1" && !leaf.is_map() =>
            {
                Some(inner)
            }
            _ => None,
        };
        match inner {
            Some(inner) => collect(&inner, &[parents, &[leaf]].concat(), into),
            None => into.push(Field {
                parents: parents.to_vec(),
                leaf,
            }),
        }
    }
}
