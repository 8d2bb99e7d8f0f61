//! Telephone numbers, which WhatsApp need not know as people dial them.

/// The other form of a number, of which people dial one and WhatsApp knows its owner by the other;
/// none for most numbers. Both are `+` and digits.
///
/// Brazil: mobile numbers with and without the ninth digit. Mexico: with and without the `1` behind
/// the country's code. Argentina: with and without the `9` there.
pub fn other_form(number: &str) -> Option<String> {
    let digits = number.strip_prefix('+')?;
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (country, national) = digits.split_at_checked(2)?;
    match country {
        "55" => {
            let (area, subscriber) = national.split_at_checked(2)?;
            let (ninth, eight) = match subscriber.len() {
                8 => ("9", subscriber),
                9 => ("", subscriber.strip_prefix('9')?),
                _ => return None,
            };
            // What begins otherwise is no mobile number, and another one with a digit before it.
            eight
                .starts_with(['6', '7', '8', '9'])
                .then(|| format!("+55{area}{ninth}{eight}"))
        }
        "52" => with_or_without('1', country, national),
        "54" => with_or_without('9', country, national),
        _ => None,
    }
}

/// A number of ten digits with another one between it and its country, or without.
fn with_or_without(mobile: char, country: &str, national: &str) -> Option<String> {
    match national.strip_prefix(mobile) {
        Some(ten) if ten.len() == 10 => Some(format!("+{country}{ten}")),
        None if national.len() == 10 => Some(format!("+{country}{mobile}{national}")),
        _ => None,
    }
}

/// Adds the other forms of the numbers among what a person is known by.
pub fn with_other_forms(mut identifiers: Vec<String>) -> Vec<String> {
    let others: Vec<String> = identifiers
        .iter()
        .filter_map(|one| other_form(one))
        .collect();
    for other in others {
        if !identifiers.contains(&other) {
            identifiers.push(other);
        }
    }
    identifiers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_dialled_in_one_form_is_known_in_the_other() {
        for (one, other) in [
            ("+5531987654321", "+553187654321"),
            ("+5215512345678", "+525512345678"),
            ("+5491112345678", "+541112345678"),
        ] {
            assert_eq!(other_form(one).as_deref(), Some(other));
            assert_eq!(other_form(other).as_deref(), Some(one));
        }
    }

    #[test]
    fn most_numbers_have_one_form() {
        for number in [
            "+15550109911",
            "+491701234567",
            // A landline in Brazil, and the mobile number that only looks like it.
            "+553133334444",
            "+5531933334444",
            "+5531",
            "+52",
            "+52155123456",
            "+521551234567890",
            "US.55319876543",
            "+55é1987654321",
            "",
        ] {
            assert_eq!(other_form(number), None, "{number}");
        }
    }
}
