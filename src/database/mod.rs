//! The server behind it all: a private one when none is named, connections, migrations.

pub(crate) mod dial;
pub(crate) mod echo;
pub(crate) mod examination;
pub(crate) mod migration;
pub mod private;
pub(crate) mod statement;
