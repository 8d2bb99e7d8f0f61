//! The server behind it all: a private one when none is named, connections, migrations.

pub mod dial;
pub mod echo;
pub mod migration;
pub mod private;
pub mod statement;
