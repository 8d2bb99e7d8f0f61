//! Names that become part of SQL, parsed once.

use std::fmt;

use crate::error::Error;
use crate::ids::TenantId;

/// Slugs and schema names that mean something already.
const RESERVED: &[&str] = &[
    "all",
    "directory",
    "default",
    "information_schema",
    "none",
    "public",
    "system",
    "template",
];

/// A tenant's slug: `[a-z0-9][a-z0-9_-]{0,39}`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Slug(String);

impl Slug {
    /// Reads a slug.
    ///
    /// # Errors
    /// It has another form, or is reserved.
    pub fn parse(field: &'static str, text: &str) -> Result<Self, Error> {
        let form = text.len() <= 40
            && text
                .bytes()
                .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-'))
            && text.starts_with(|first: char| first.is_ascii_alphanumeric());
        if !form {
            return Err(Error::invalid(
                field,
                "must match `[a-z0-9][a-z0-9_-]{0,39}`",
            ));
        }
        if is_reserved(text) {
            return Err(Error::invalid(field, "is a reserved word"));
        }
        Ok(Self(text.to_owned()))
    }

    /// The slug.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Slug {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// The name of a schema or role, `[a-z][a-z0-9_]{0,62}`: PostgreSQL cuts names at 63 bytes, and a
/// name that was cut could be another tenant's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemaName(String);

impl SchemaName {
    /// Reads a name.
    ///
    /// # Errors
    /// It has another form, or is reserved.
    pub fn parse(field: &'static str, text: &str) -> Result<Self, Error> {
        let form = (1..=63).contains(&text.len())
            && text
                .bytes()
                .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_'))
            && text.starts_with(|first: char| first.is_ascii_lowercase());
        if !form {
            return Err(Error::invalid(field, "must match `[a-z][a-z0-9_]{0,62}`"));
        }
        if is_reserved(text) {
            return Err(Error::invalid(field, "is a reserved name"));
        }
        Ok(Self(text.to_owned()))
    }

    /// Makes the name of a tenant's schema from its id.
    pub fn of(tenant: TenantId) -> Self {
        Self(format!("t_{}", tenant.0.simple()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Shows the name as SQL wants it, in quotes. The form has no quote that would need doubling.
impl fmt::Display for SchemaName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "\"{}\"", self.0)
    }
}

fn is_reserved(text: &str) -> bool {
    text.starts_with("pg_") || RESERVED.contains(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slugs_of_the_right_form_are_taken() {
        for slug in ["a", "0", "acme", "acme-2", "a_b", &"x".repeat(40)] {
            assert_eq!(Slug::parse("tenant", slug).unwrap().as_str(), slug);
        }
    }

    #[test]
    fn hostile_slugs_are_refused() {
        let long = "x".repeat(41);
        let hostile = [
            "",
            "-a",
            "_a",
            "Acme",
            "a b",
            "a.b",
            "a/b",
            "../a",
            "a\"b",
            "a'b",
            "a;b",
            "a\0",
            "ä",
            "а",
            "a\n",
            "pg_temp",
            "public",
            "directory",
            "a%",
            &long,
        ];
        for slug in hostile {
            assert!(Slug::parse("tenant", slug).is_err(), "{slug:?}");
            assert!(
                SchemaName::parse("schema_name", slug).is_err() || slug == long,
                "{slug:?}"
            );
        }
        assert!(SchemaName::parse("schema_name", &"x".repeat(63)).is_ok());
        assert!(SchemaName::parse("schema_name", &"x".repeat(64)).is_err());
        assert!(SchemaName::parse("schema_name", "1a").is_err());
    }
}
