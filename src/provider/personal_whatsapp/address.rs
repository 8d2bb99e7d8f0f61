//! How gateways write the addresses of people, and the ids of messages.

use crate::provider::lenient;
use crate::provider::phone::with_other_forms;

/// By what a person is known, from an address such as `15550109911:12@s.whatsapp.net`; `None` for
/// what is no person: a group, a channel, a status post.
pub fn person(address: &str) -> Option<String> {
    let (user, server) = address.split_once('@')?;
    let user = user.split_once(':').map_or(user, |(user, _)| user);
    let is_number = !user.is_empty() && user.bytes().all(|byte| byte.is_ascii_digit());
    match server {
        "c.us" | "s.whatsapp.net" if is_number => lenient::identifier(&format!("+{user}")),
        // Behind a hidden number is no telephone number.
        "lid" if !user.is_empty() => lenient::identifier(&format!("{user}@lid")),
        _ => None,
    }
}

/// Tells whether an address is of many: a group, a channel, a status post.
pub fn is_crowd(address: &str) -> bool {
    let server = address.rsplit_once('@').map(|(_, server)| server);
    matches!(server, Some("g.us" | "broadcast" | "newsletter"))
}

/// The people of some addresses, each once, numbers first, and how people dial the numbers.
pub fn people(addresses: &[String]) -> Vec<String> {
    let mut people: Vec<String> = Vec::new();
    for person in addresses.iter().filter_map(|address| person(address)) {
        if !people.contains(&person) {
            people.push(person);
        }
    }
    people.sort_by_key(|person| !person.starts_with('+'));
    with_other_forms(people)
}

/// The chat that some engines put into the id of a message; empty where they do not.
pub fn chat_of(id: &str) -> &str {
    match id.split_once('_') {
        Some(("true" | "false", rest)) => rest.split('_').next().unwrap_or_default(),
        _ => "",
    }
}

/// The id of a message, without what some engines put around it: whose it is, the chat, who of a
/// group.
pub fn message_id(id: &str) -> Option<String> {
    let bare = match id.split_once('_') {
        Some(("true" | "false", rest)) => rest.split('_').nth(1).unwrap_or(rest),
        _ => id,
    };
    lenient::identifier(bare)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_people_are_people() {
        assert_eq!(person("15550109911@c.us").as_deref(), Some("+15550109911"));
        assert_eq!(
            person("15550109911:12@s.whatsapp.net").as_deref(),
            Some("+15550109911")
        );
        assert_eq!(person("190000@lid").as_deref(), Some("190000@lid"));
        for nobody in [
            "120363@g.us",
            "status@broadcast",
            "1@newsletter",
            "",
            "@c.us",
            "x@c.us",
        ] {
            assert_eq!(person(nobody), None, "{nobody}");
        }
    }

    #[test]
    fn an_id_is_the_same_from_every_engine() {
        for id in ["3EB0", "false_1@c.us_3EB0", "true_1@g.us_3EB0_2@c.us"] {
            assert_eq!(message_id(id).as_deref(), Some("3EB0"), "{id}");
        }
        assert_eq!(message_id(""), None);
    }
}
