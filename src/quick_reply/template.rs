//! Templates: what the text of a quick reply may say, and how it is filled in.
//!
//! `{{name}}` and `{{name|fallback}}` stand for variables. A backslash before `{{` or `}}` makes
//! them plain, two are one backslash; elsewhere a backslash stands for itself.

use super::variable::is_name;

/// The most bytes of a text, before and after it is filled in.
pub const MAX_TEXT_BYTES: usize = 64 * 1024;

/// A text with places for variables.
#[derive(Debug, PartialEq, Eq)]
pub struct Template(Vec<Part>);

#[derive(Debug, PartialEq, Eq)]
enum Part {
    Plain(String),
    Variable(Variable),
}

/// The place of a variable.
#[derive(Debug, PartialEq, Eq)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// What the text puts in its place where it has no value.
    fallback: Option<String>,
    /// Where it stands: which character of the text, counted from 1.
    pub position: usize,
}

/// Why a text is no template.
#[derive(Debug, PartialEq, Eq)]
pub struct Fault {
    /// Where: which character of the text, counted from 1.
    pub position: usize,
    /// What is wrong, as a description of the field.
    pub problem: String,
}

/// A text, filled in.
#[derive(Debug, PartialEq, Eq)]
pub struct Rendered {
    /// The text; what is missing is left in it as `{{name}}`.
    pub text: String,
    /// The names of the variables that had neither value nor fallback, in the order of the text.
    pub missing: Vec<String>,
}

/// A text that would be longer than `MAX_TEXT_BYTES`.
#[derive(Debug, PartialEq, Eq)]
pub struct TooLong;

impl Template {
    /// Reads a text.
    ///
    /// # Errors
    /// Its braces do not match, or hold something else than a variable.
    pub fn parse(text: &str) -> Result<Self, Fault> {
        let fault = |at: usize, problem: &str| {
            let position = text[..at].chars().count() + 1;
            Fault {
                position,
                problem: format!("at character {position} {problem}"),
            }
        };
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut at = 0;
        while let Some(found) = text[at..].find(['\\', '{', '}']) {
            plain.push_str(&text[at..at + found]);
            at += found;
            let backslashes = text[at..].bytes().take_while(|byte| *byte == b'\\').count();
            let braces = at + backslashes;
            let mut marks = ["{{", "}}"].into_iter();
            let Some(mark) = marks.find(|mark| text[braces..].starts_with(mark)) else {
                let end = at + backslashes.max(1);
                plain.push_str(&text[at..end]);
                at = end;
                continue;
            };
            plain.push_str(&text[at..at + backslashes / 2]);
            at = braces + mark.len();
            if backslashes % 2 == 1 {
                plain.push_str(mark);
                continue;
            }
            if mark == "}}" {
                return Err(fault(
                    braces,
                    "has `}}` that closes nothing; as plain text it is `\\}}`",
                ));
            }
            let inside = match text[at..].split_once("}}") {
                Some((inside, _)) if !inside.contains("{{") => inside,
                _ => {
                    return Err(fault(
                        braces,
                        "has `{{` that is not closed by `}}`; as plain text it is `\\{{`",
                    ));
                }
            };
            let (name, fallback) = match inside.split_once('|') {
                Some((name, fallback)) => (name, Some(fallback.trim().to_owned())),
                None => (inside, None),
            };
            let name = name.trim().to_owned();
            if !is_name(&name) {
                return Err(fault(braces, "has `{{…}}` that names no variable"));
            }
            if !plain.is_empty() {
                parts.push(Part::Plain(std::mem::take(&mut plain)));
            }
            let position = text[..braces].chars().count() + 1;
            parts.push(Part::Variable(Variable {
                name,
                fallback,
                position,
            }));
            at += inside.len() + "}}".len();
        }
        plain.push_str(&text[at..]);
        if !plain.is_empty() {
            parts.push(Part::Plain(plain));
        }
        Ok(Self(parts))
    }

    /// The places of variables, in order.
    pub fn variables(&self) -> impl Iterator<Item = &Variable> {
        self.0.iter().filter_map(|part| match part {
            Part::Plain(_) => None,
            Part::Variable(variable) => Some(variable),
        })
    }

    /// Fills it in: with the value of each variable, else the fallback that the text names, else
    /// the one that the quick reply declares.
    ///
    /// # Errors
    /// The text would be longer than a text may be.
    pub fn render<'v>(
        &self,
        value: impl Fn(&str) -> Option<&'v str>,
        declared_fallback: impl Fn(&str) -> Option<&'v str>,
    ) -> Result<Rendered, TooLong> {
        let mut text = String::new();
        let mut missing: Vec<String> = Vec::new();
        for part in &self.0 {
            match part {
                Part::Plain(plain) => text.push_str(plain),
                Part::Variable(variable) => {
                    let name = variable.name.as_str();
                    let known = value(name)
                        .or(variable.fallback.as_deref())
                        .or_else(|| declared_fallback(name));
                    if let Some(known) = known {
                        text.push_str(known);
                    } else {
                        text.push_str("{{");
                        text.push_str(name);
                        text.push_str("}}");
                        if !missing.contains(&variable.name) {
                            missing.push(variable.name.clone());
                        }
                    }
                }
            }
            if text.len() > MAX_TEXT_BYTES {
                return Err(TooLong);
            }
        }
        Ok(Rendered { text, missing })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(text: &str) -> Rendered {
        let value = |name: &str| match name {
            "contact.name" => Some("Jane {{agent.id}}"),
            "order" => Some(""),
            _ => None,
        };
        let declared = |name: &str| (name == "day").then_some("soon");
        Template::parse(text)
            .unwrap()
            .render(value, declared)
            .unwrap()
    }

    fn text(template: &str) -> String {
        let rendered = render(template);
        assert_eq!(rendered.missing, Vec::<String>::new(), "{template}");
        rendered.text
    }

    #[test]
    fn a_variable_has_its_value_or_a_fallback() {
        // A value is put in as it is, whatever it looks like.
        assert_eq!(text("Hi {{contact.name}}!"), "Hi Jane {{agent.id}}!");
        assert_eq!(text("{{ contact.name | there }}"), "Jane {{agent.id}}");
        assert_eq!(text("Hi {{contact.city| you  there }}."), "Hi you  there.");
        assert_eq!(text("Hi{{contact.city|}}."), "Hi.");
        assert_eq!(text("{{x|a|b}}"), "a|b");
        assert_eq!(text("[{{order|none}}]"), "[]");
        assert_eq!(text("{{day}} {{day|now}}"), "soon now");
        assert_eq!(text(""), "");
    }

    #[test]
    fn what_is_missing_is_named_once_and_left_visible() {
        let rendered = render("{{b}} {{ a }} {{b}} {{b|x}}");
        assert_eq!(rendered.text, "{{b}} {{a}} {{b}} x");
        assert_eq!(rendered.missing, ["b", "a"]);
    }

    #[test]
    fn a_backslash_makes_braces_plain() {
        assert_eq!(text(r"\{{contact.name\}}"), "{{contact.name}}");
        assert_eq!(text(r"\\{{day}}"), r"\soon");
        assert_eq!(text(r"\\\{{day\\\}}"), r"\{{day\}}");
        assert_eq!(
            text(r"C:\temp\ \n \{ \} { } {a} \"),
            r"C:\temp\ \n \{ \} { } {a} \"
        );
        assert_eq!(text("{{day}}}"), "soon}");
    }

    #[test]
    fn what_is_no_template_is_refused_where_it_is_wrong() {
        let position = |text: &str| Template::parse(text).unwrap_err().position;
        assert_eq!(position("{{"), 1);
        assert_eq!(position("ä {{day"), 3);
        assert_eq!(position("ä {{day}"), 3);
        assert_eq!(position("{{day}} }}"), 9);
        assert_eq!(position("{{day {{day}}"), 1);
        assert_eq!(position(r"\\}}"), 3);
        assert_eq!(position("{{{day}}}"), 1);
        for wrong in [
            "", " ", "|x", "Day", "a b", "a.", ".a", "a..b", "1a", "a-b", "#if a", "ä",
        ] {
            assert_eq!(position(&format!("ok {{{{{wrong}}}}}")), 4, "{wrong}");
        }
    }

    #[test]
    fn a_text_that_would_be_too_long_is_not_made() {
        let template = Template::parse(&"{{a}}".repeat(100)).unwrap();
        let value = "x".repeat(1000);
        assert_eq!(template.render(|_| Some(&value), |_| None), Err(TooLong));
        assert!(template.render(|_| Some(&value[..600]), |_| None).is_ok());
    }

    /// Pseudo-random numbers, the same in every run.
    fn numbers(seed: u64) -> impl FnMut(usize) -> usize {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        move |below| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            usize::try_from(state >> 33).unwrap() % below
        }
    }

    #[test]
    fn any_text_at_all_can_be_written_as_a_template() {
        let pieces = [
            "{", "}", "{{", "}}", "\\", "\\\\", "a", "ä", "|", " ", "{{day}}", "\n",
        ];
        for seed in 0..20_000 {
            let mut next = numbers(seed);
            let wanted: String = (0..next(12)).map(|_| pieces[next(pieces.len())]).collect();
            // Escapes as the syntax says: each run of backslashes before two braces is doubled,
            // and one more put before them.
            let mut template = String::new();
            let mut rest = wanted.as_str();
            while let Some(first) = rest.chars().next() {
                let backslashes = rest.bytes().take_while(|byte| *byte == b'\\').count();
                let after = &rest[backslashes..];
                let taken = if after.starts_with("{{") || after.starts_with("}}") {
                    template.push_str(&"\\".repeat(2 * backslashes + 1));
                    template.push_str(&after[..2]);
                    backslashes + 2
                } else {
                    let taken = backslashes.max(first.len_utf8());
                    template.push_str(&rest[..taken]);
                    taken
                };
                rest = &rest[taken..];
            }
            assert_eq!(text(&template), wanted, "{template}");
        }
    }

    #[test]
    fn no_text_breaks_the_parser_and_what_it_takes_can_be_rendered() {
        let pieces = [
            "{", "}", "{{", "}}", "\\", "|", "a", "a.b", "é", " ", "😀", "0", "\n", "\"",
        ];
        let mut taken = 0;
        for seed in 0..50_000 {
            let mut next = numbers(seed);
            let text: String = (0..next(16)).map(|_| pieces[next(pieces.len())]).collect();
            match Template::parse(&text) {
                Ok(template) => {
                    taken += 1;
                    let rendered = template.render(|_| Some("v"), |_| None).unwrap();
                    assert_eq!(rendered.missing, Vec::<String>::new());
                    let places = template.variables().count();
                    let rendered = template.render(|_| None, |_| None).unwrap();
                    assert!(rendered.missing.len() <= places);
                }
                Err(fault) => {
                    assert!(fault.position <= text.chars().count(), "{text}");
                    let marks: String = text.chars().skip(fault.position - 1).take(2).collect();
                    assert!(marks == "{{" || marks == "}}", "{text}: {fault:?}");
                }
            }
        }
        assert!(taken > 5_000, "{taken}");
    }
}
