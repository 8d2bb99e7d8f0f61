//! What a quick reply says: its texts in several languages, and the variables in them.

use std::collections::BTreeSet;
use std::fmt::Debug;

use diesel::deserialize::{self, FromSql, FromSqlRow};
use diesel::expression::AsExpression;
use diesel::pg::{Pg, PgValue};
use diesel::prelude::*;
use diesel::serialize::{self, Output, ToSql};
use diesel::sql_types::Jsonb;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::language::Language;
use super::template::Template;
use super::variable::{BUILT_IN, Variable, is_reserved};
use crate::error::Error;
use crate::field::Fields;
use crate::fold::fold;
use crate::schema::tenant::inbox_quick_replies;

/// A text in one more language.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Variant {
    /// The language.
    pub language: Language,
    /// The template.
    pub text: String,
}

/// A list that is stored as JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, AsExpression, FromSqlRow)]
#[diesel(sql_type = Jsonb)]
#[serde(transparent)]
pub struct Stored<T: Debug>(pub Vec<T>);

impl<T: Debug> Default for Stored<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Debug + DeserializeOwned> FromSql<Jsonb, Pg> for Stored<T> {
    fn from_sql(value: PgValue<'_>) -> deserialize::Result<Self> {
        let list = <Value as FromSql<Jsonb, Pg>>::from_sql(value)?;
        Ok(Self(serde_json::from_value(list)?))
    }
}

impl<T: Debug + Serialize> ToSql<Jsonb, Pg> for Stored<T> {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Pg>) -> serialize::Result {
        let list = serde_json::to_value(&self.0)?;
        <Value as ToSql<Jsonb, Pg>>::to_sql(&list, &mut out.reborrow())
    }
}

/// What callers edit of a quick reply.
#[derive(Debug, Clone, PartialEq, Queryable, Selectable, Serialize, Deserialize)]
#[diesel(table_name = inbox_quick_replies, check_for_backend(Pg))]
pub struct Content {
    /// What an agent types to find it.
    pub shortcut: String,
    /// What it is called.
    pub title: String,
    /// The template.
    pub text: String,
    /// The tag of its language, or empty.
    pub language: String,
    /// The template in other languages.
    pub variants: Stored<Variant>,
    /// The variables that it declares.
    pub variables: Stored<Variable>,
    /// Free data.
    pub metadata: Value,
}

/// The columns that hold a content, with what is made of it for searches.
#[derive(Debug, Insertable, AsChangeset)]
#[diesel(table_name = inbox_quick_replies)]
pub struct ContentColumns<'a> {
    shortcut: &'a str,
    shortcut_key: String,
    title: &'a str,
    title_key: String,
    text: &'a str,
    folded: String,
    language: &'a str,
    languages: Vec<Option<&'a str>>,
    variants: &'a Stored<Variant>,
    variables: &'a Stored<Variable>,
    metadata: &'a Value,
}

impl Content {
    /// Checks what depends on several fields: each variable of a template is built in or declared,
    /// none is declared twice, and no language has two texts.
    ///
    /// # Errors
    /// Something is wrong; of the fields that do not go together, one that was given is named.
    pub fn check(&self, given: impl Fn(&str) -> bool) -> Result<(), Error> {
        let mut fields = Fields::default();
        let mut declared = BTreeSet::new();
        for (index, variable) in self.variables.0.iter().enumerate() {
            let field = format!("variables[{index}].name");
            if is_reserved(&variable.name) {
                let problem = "must not begin with `contact`, `conversation` or `agent`";
                fields.refuse(field, problem);
            } else if !declared.insert(variable.name.as_str()) {
                fields.refuse(field, "is there twice");
            }
        }
        let mut check = |field: String, is_given: bool, text: &str| match Template::parse(text) {
            Err(fault) => fields.refuse(field, fault.problem),
            Ok(template) => {
                let unknown = template.variables().find(|variable| {
                    let name = variable.name.as_str();
                    !BUILT_IN.contains(&name) && !declared.contains(name)
                });
                if let Some(unknown) = unknown {
                    let (name, position) = (&unknown.name, unknown.position);
                    if is_given {
                        let problem = format!(
                            "at character {position} has the variable `{name}`, which is neither built in nor declared"
                        );
                        fields.refuse(field, problem);
                    } else {
                        let problem =
                            format!("lacks `{name}`, which `{field}` has at character {position}");
                        fields.refuse("variables", problem);
                    }
                }
            }
        };
        check("text".to_owned(), given("text"), &self.text);
        for (index, variant) in self.variants.0.iter().enumerate() {
            let field = format!("variants[{index}].text");
            check(field, given("variants"), &variant.text);
        }
        let mut languages = BTreeSet::from([self.language.as_str()]);
        for (index, variant) in self.variants.0.iter().enumerate() {
            if languages.insert(variant.language.as_str()) {
                continue;
            }
            let field = match given("variants") {
                true => format!("variants[{index}].language"),
                false => "language".to_owned(),
            };
            fields.refuse(field, "has a text already");
        }
        fields.finish()
    }

    /// Chooses the text for whoever wants a language, with the tag of its own.
    pub fn text_for(&self, wanted: Option<&Language>) -> (&str, &str) {
        let tags = wanted.map(Language::served_by).unwrap_or_default();
        for tag in tags {
            if self.language == tag {
                break;
            }
            let mut variants = self.variants.0.iter();
            if let Some(variant) = variants.find(|variant| variant.language.as_str() == tag) {
                return (&variant.text, variant.language.as_str());
            }
        }
        (&self.text, &self.language)
    }

    /// What the database holds of it.
    pub fn columns(&self) -> ContentColumns<'_> {
        let variants = || self.variants.0.iter();
        let texts = variants().map(|variant| variant.text.as_str());
        let texts: Vec<_> = [&self.shortcut, &self.title, &self.text]
            .map(String::as_str)
            .into_iter()
            .chain(texts)
            .collect();
        let languages = variants().map(|variant| variant.language.as_str());
        let own = Some(self.language.as_str()).filter(|tag| !tag.is_empty());
        ContentColumns {
            shortcut: &self.shortcut,
            shortcut_key: fold(&self.shortcut),
            title: &self.title,
            title_key: fold(&self.title),
            text: &self.text,
            folded: fold(&texts.join("\n")),
            language: &self.language,
            languages: own.into_iter().chain(languages).map(Some).collect(),
            variants: &self.variants,
            variables: &self.variables,
            metadata: &self.metadata,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_language_is_chosen() {
        let tag = |tag: &str| Language::parse(tag).unwrap();
        let variant = |language: &str| Variant {
            language: tag(language),
            text: format!("text of {language}"),
        };
        let content = Content {
            shortcut: "hi".to_owned(),
            title: String::new(),
            text: "default".to_owned(),
            language: "en".to_owned(),
            variants: Stored(["de", "de-CH", "zh-Hant", "en-GB"].map(variant).to_vec()),
            variables: Stored(Vec::new()),
            metadata: Value::Null,
        };
        for (wanted, chosen, language) in [
            ("de", "text of de", "de"),
            ("de-AT", "text of de", "de"),
            ("de-CH", "text of de-CH", "de-CH"),
            ("zh-hant-tw", "text of zh-Hant", "zh-Hant"),
            ("zh-CN", "default", "en"),
            ("fr", "default", "en"),
            ("en", "default", "en"),
            ("en-US", "default", "en"),
            ("en-GB", "text of en-GB", "en-GB"),
        ] {
            assert_eq!(content.text_for(Some(&tag(wanted))), (chosen, language));
        }
        assert_eq!(content.text_for(None), ("default", "en"));
    }
}
