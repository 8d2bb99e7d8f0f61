//! The words by which people are found, and the order of their names: without regard to case, in
//! any language, whatever locale the database has.

use std::collections::BTreeSet;

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use crate::error::Error;
use crate::ids::ContactId;
use crate::schema::tenant::{contact_identities, contact_words, contacts};
use crate::tenant::TenantConn;

/// How much of a name decides its place in the order, in characters.
const ORDERED: usize = 64;
/// The longest word, in characters; a longer one is found by its beginning.
const LONGEST: usize = 64;
/// How many words of one text count.
const MOST: usize = 64;

/// By what a name is ordered.
pub fn order_key(name: &str) -> String {
    name.to_lowercase().chars().take(ORDERED).collect()
}

/// The words of a name, an identifier or a query. A telephone number is one word, however it is
/// written.
pub fn of(text: &str) -> BTreeSet<String> {
    let is_number = |c: char| c.is_ascii_digit() || " +-()./".contains(c);
    if text.chars().all(is_number) {
        let digits: String = text.chars().filter(char::is_ascii_digit).collect();
        return (!digits.is_empty())
            .then(|| cut(&digits))
            .into_iter()
            .collect();
    }
    let folded = text.to_lowercase();
    folded
        .split(|c: char| !c.is_alphanumeric() && !is_mark(c))
        .filter(|word| !word.is_empty())
        .take(MOST)
        .map(cut)
        .collect()
}

/// The first text that no word with this beginning comes before.
pub fn beyond(beginning: &str) -> String {
    format!("{beginning}{}", char::MAX)
}

fn cut(word: &str) -> String {
    word.chars().take(LONGEST).collect()
}

/// A mark that combines with the letter before it.
fn is_mark(c: char) -> bool {
    ('\u{300}'..='\u{36f}').contains(&c)
}

/// Writes the words of somebody who has none yet.
pub async fn add(
    conn: &mut TenantConn,
    contact: ContactId,
    texts: impl IntoIterator<Item = &str>,
) -> Result<(), Error> {
    let words: BTreeSet<String> = texts.into_iter().flat_map(of).collect();
    let rows: Vec<_> = words
        .iter()
        .map(|word| {
            (
                contact_words::word.eq(word),
                contact_words::contact_id.eq(contact),
            )
        })
        .collect();
    diesel::insert_into(contact_words::table)
        .values(rows)
        .on_conflict_do_nothing()
        .execute(conn)
        .await?;
    Ok(())
}

/// Writes the words of somebody anew, after a change of name or identities.
pub async fn renew(conn: &mut TenantConn, contact: ContactId) -> Result<(), Error> {
    let mut texts: Vec<String> = contact_identities::table
        .filter(contact_identities::contact_id.eq(contact))
        .select(contact_identities::value)
        .load(conn)
        .await?;
    texts.push(
        contacts::table
            .find(contact)
            .select(contacts::name)
            .first(conn)
            .await?,
    );
    diesel::delete(contact_words::table)
        .filter(contact_words::contact_id.eq(contact))
        .execute(conn)
        .await?;
    add(conn, contact, texts.iter().map(String::as_str)).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_know_no_case_and_no_punctuation() {
        let words = |text| of(text).into_iter().collect::<Vec<_>>();
        assert_eq!(
            words("Ärger, Łukasz O'Neil"),
            ["neil", "o", "ärger", "łukasz"]
        );
        assert_eq!(
            words("Jane.Doe@Example.com"),
            ["com", "doe", "example", "jane"]
        );
        assert_eq!(words("+1 (555) 010-9911"), ["15550109911"]);
        assert_eq!(words("US.1349"), ["1349", "us"]);
        assert_eq!(words("王小明"), ["王小明"]);
        assert_eq!(words("e\u{301}a"), ["e\u{301}a"]);
        assert!(words(" - ").is_empty());
    }

    #[test]
    fn a_word_lies_between_its_beginning_and_what_is_beyond() {
        assert!("anna" < beyond("ann").as_str());
        assert!("ano" > beyond("ann").as_str());
    }
}
