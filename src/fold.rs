//! Takes the case out of texts, so that they can be compared and searched in any language without
//! a locale of the database.

/// Folds the case of a text: `Straße` and `STRASSE` become the same.
///
/// Letter by letter, so that what is folded does not depend on its neighbours, as the Greek final
/// sigma would; upper case first, because some letters only meet there.
pub fn fold(text: &str) -> String {
    text.chars()
        .flat_map(char::to_uppercase)
        .flat_map(char::to_lowercase)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_is_taken_out_of_every_script_that_has_it() {
        for (one, other) in [
            ("Hello", "hELLO"),
            ("Straße", "STRASSE"),
            ("ПРИВЕТ", "привет"),
            ("ΟΔΟΣ", "οδος"),
            ("οδοσ", "οδος"),
            ("Ärger", "äRGER"),
            ("ﬁn", "FIN"),
        ] {
            assert_eq!(fold(one), fold(other));
        }
        assert_eq!(fold("你好 สวัสดี"), "你好 สวัสดี");
        assert_ne!(fold("a"), fold("ä"));
    }

    #[test]
    fn a_folded_text_contains_each_of_its_folded_parts() {
        let text = "ΤΈΛΟΣ Straße İstanbul ǅ";
        let folded = fold(text);
        for (start, _) in text.char_indices() {
            assert!(folded.contains(&fold(&text[start..])));
            assert!(folded.contains(&fold(&text[..start])));
        }
        assert_eq!(fold(&folded), folded);
    }
}
