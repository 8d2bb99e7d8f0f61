//! How commands write what the server answered.

use std::error::Error;

use chrono::SecondsFormat;
use clap::{Args, ValueEnum};
use prost::Message;
use prost_reflect::{DynamicMessage, SerializeOptions};
use prost_types::Timestamp;
use serde_json::Value;

use super::client::descriptors;
use crate::time::from_timestamp;

/// How an answer is written.
#[derive(Debug, Clone, Copy, Args)]
pub struct OutputArgs {
    /// How the answer is written
    #[arg(long, value_enum, default_value_t = Output::Table, value_name = "FORM")]
    pub output: Output,
}

/// For whom an answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people
    Table,
    /// For programs, as the API spells it
    Json,
}

/// Writes JSON to the standard output.
///
/// # Errors
/// It is none, which it is not.
pub fn print(value: &Value) -> Result<(), Box<dyn Error>> {
    println!("{}", serde_json::to_string_pretty(value)?);
    Ok(())
}

/// A message as JSON, by the names of the proto; it is of that name in the package.
///
/// # Errors
/// There is no such message.
pub fn to_value<M: Message>(name: &str, message: &M) -> Result<Value, Box<dyn Error>> {
    let descriptor = descriptors()?
        .get_message_by_name(&format!("communication.v1.{name}"))
        .ok_or_else(|| format!("the descriptors have no `{name}`"))?;
    let message = DynamicMessage::decode(descriptor, message.encode_to_vec().as_slice())?;
    let options = SerializeOptions::new().use_proto_field_name(true);
    Ok(message.serialize_with_options(serde_json::value::Serializer, &options)?)
}

/// A time in a table, in UTC; nothing where there is none.
pub fn time(time: Option<&Timestamp>) -> String {
    let time = time.and_then(|time| from_timestamp("time", time).ok());
    time.map(|time| time.to_rfc3339_opts(SecondsFormat::Secs, true))
        .unwrap_or_default()
}
