//! Words: how texts of any language are cut into them, stored, asked for and shown.
//!
//! All of it is done here and nothing by PostgreSQL, which only compares bytes: its own parsers,
//! dictionaries and trigrams depend on the server's locale and extensions. `words` cuts, `vector`
//! writes the words of a text as a `tsvector`, `Query` reads what somebody looks for and writes it
//! as `tsquery`, `snippet` shows why a text was found. Whoever matches names or subjects against
//! words takes the same four.

pub mod index;
mod query;
mod snippet;
mod word;

pub use query::Query;
pub use snippet::snippet;
pub use word::{quote, vector};
