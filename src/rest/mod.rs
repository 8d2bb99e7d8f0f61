//! REST: the calls that `google.api.http` annotates, in JSON, through the same services and the
//! same checks as gRPC.
//!
//! Nothing here knows a call: paths, fields and words come from the descriptors, so a call is
//! offered as soon as it is annotated. A request is turned into its gRPC call behind the checks, so
//! that they hold for it as they hold for gRPC, its credential before its body. The stream of events
//! goes the same way, and comes back by WebSocket.

mod binding;
mod gateway;
mod live;
mod openapi;
mod read;
mod refusal;
mod request;
mod short_name;
mod transcoder;
mod write;

pub use self::binding::BindingError;
pub use self::gateway::Gateway;
pub use self::read::message as read;
