//! The words for the values of an enum: `whatsapp` for `CHANNEL_WHATSAPP`.

use prost_reflect::{EnumDescriptor, EnumValueDescriptor};

/// The word for a value: its name without that of its enum, in small letters.
pub fn short_name(value: &EnumValueDescriptor) -> String {
    bare(value).to_ascii_lowercase()
}

/// The value of a word, or of its whole name.
pub fn value_of(values: &EnumDescriptor, word: &str) -> Option<EnumValueDescriptor> {
    values
        .values()
        .find(|value| bare(value).eq_ignore_ascii_case(word) || value.name() == word)
}

/// The name of a value without `CONVERSATION_STATUS_`, of an enum `ConversationStatus`.
fn bare(value: &EnumValueDescriptor) -> &str {
    let parent = value.parent_enum().name();
    let words = parent.bytes().filter(u8::is_ascii_uppercase).count();
    let prefix = parent.len() + words;
    match value.name().split_at_checked(prefix) {
        Some((prefix, bare)) if prefix.ends_with('_') && !bare.is_empty() => bare,
        _ => value.name(),
    }
}

#[cfg(test)]
mod tests {
    use prost_reflect::DescriptorPool;

    use super::*;

    #[test]
    fn each_value_has_a_word_of_its_own_that_reads_back() {
        let pool = DescriptorPool::decode(crate::pb::DESCRIPTORS).unwrap();
        let ours = |values: &EnumDescriptor| values.package_name() == "communication.v1";
        for values in pool.all_enums().filter(ours) {
            for value in values.values() {
                let word = short_name(&value);
                assert!(word.len() < value.name().len(), "{}", value.name());
                for spelling in [word.as_str(), value.name()] {
                    assert_eq!(value_of(&values, spelling), Some(value.clone()));
                }
            }
        }
        let channel = pool.get_enum_by_name("communication.v1.Channel").unwrap();
        let twilio = channel.get_value_by_name("CHANNEL_TWILIO_CALL").unwrap();
        assert_eq!(short_name(&twilio), "twilio_call");
        assert_eq!(value_of(&channel, "fax"), None);
    }
}
