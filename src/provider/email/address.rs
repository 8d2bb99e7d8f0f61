//! Addresses of mail.

use super::header::words;
use super::mail::Address;
use crate::provider::lenient::cut;

/// Many more people than any mail names.
const MAX_ADDRESSES: usize = 1_000;
/// The longest words beside an address that are read, in bytes.
const MAX_PHRASE_BYTES: usize = 4_000;
/// The longest name that is kept, in bytes.
const MAX_NAME_BYTES: usize = 500;

/// Reads the addresses of a field.
pub fn list(value: &str) -> Vec<Address> {
    let mut addresses = read(value);
    for address in &mut addresses {
        address.address = address.address.to_lowercase();
    }
    addresses
}

/// Reads the addresses of a field in the case they are written in.
fn read(value: &str) -> Vec<Address> {
    let mut reader = Reader::default();
    if !reader.read(value, true) {
        // A quote that is never closed hides all after it.
        reader = Reader::default();
        reader.read(value, false);
    }
    reader.found
}

/// Reads the addresses of a field without their names, in the case they are written in.
pub fn list_as_written(value: &str) -> Vec<String> {
    read(value)
        .into_iter()
        .map(|address| address.address)
        .collect()
}

/// What of an address was read so far.
#[derive(Default)]
struct Reader {
    phrase: String,
    angle: Option<String>,
    comment: String,
    has_at: bool,
    found: Vec<Address>,
}

impl Reader {
    /// Reads a whole field; tells whether all that was opened was closed.
    fn read(&mut self, value: &str, has_quotes: bool) -> bool {
        let mut quoted = false;
        let mut inside = false;
        let mut comment = 0_usize;
        let mut letters = value.chars();
        while let Some(letter) = letters.next() {
            match letter {
                '\\' if quoted || comment > 0 => self.put(letters.next(), inside, comment),
                '"' if has_quotes && comment == 0 => quoted = !quoted,
                _ if quoted => self.put(Some(letter), inside, comment),
                '(' if !inside && has_quotes => {
                    comment += 1;
                    if comment > 1 {
                        self.put(Some(letter), inside, comment);
                    }
                }
                ')' if comment > 0 => {
                    if comment > 1 {
                        self.put(Some(letter), inside, comment);
                    }
                    comment -= 1;
                }
                _ if comment > 0 => self.put(Some(letter), inside, comment),
                '<' => {
                    inside = true;
                    self.angle = Some(String::new());
                }
                '>' => inside = false,
                ',' | ';' if !inside => self.finish(letter == ';'),
                ':' if !inside && !self.has_at => self.phrase.clear(),
                _ => self.put(Some(letter), inside, comment),
            }
        }
        self.finish(true);
        !quoted && comment == 0
    }

    /// Adds a letter to where it belongs.
    fn put(&mut self, letter: Option<char>, inside: bool, comment: usize) {
        let Some(letter) = letter else { return };
        match &mut self.angle {
            _ if comment > 0 => {
                let has_room = self.comment.len() < MAX_PHRASE_BYTES;
                self.comment.extend(has_room.then_some(letter));
            }
            Some(angle) if inside => angle.extend(Some(letter).filter(|it| !it.is_whitespace())),
            _ if self.phrase.len() < MAX_PHRASE_BYTES => {
                self.phrase.push(letter);
                self.has_at |= letter == '@';
            }
            _ => {}
        }
    }

    /// Ends an address. A name with a comma in it goes on.
    fn finish(&mut self, last: bool) {
        if !self.has_at && self.angle.is_none() && !last {
            // Nothing yet, or a name that has a comma.
            if !self.phrase.trim_start().is_empty() && self.phrase.len() < MAX_PHRASE_BYTES {
                self.phrase.push(',');
            }
            return;
        }
        let address = if let Some(angle) = &self.angle {
            angle.clone()
        } else {
            let mut words = self.phrase.split_whitespace().rev();
            let address = words.find(|word| word.contains('@')).unwrap_or_default();
            let address = address.to_owned();
            self.phrase = self.phrase.replacen(&address, "", 1);
            address
        };
        // A route of old: `@a,@b:c@d`.
        let address = match address.rsplit_once(':') {
            Some((route, address)) if route.starts_with('@') => address.to_owned(),
            _ => address,
        };
        let mut name = one_line(&words(&self.phrase));
        if name.is_empty() {
            name = one_line(&words(&self.comment));
        }
        cut(&mut name, MAX_NAME_BYTES);
        let address = address.trim().to_owned();
        if !address.is_empty() && self.found.len() < MAX_ADDRESSES {
            self.found.push(Address { address, name });
        }
        self.phrase.clear();
        self.angle = None;
        self.comment.clear();
        self.has_at = false;
    }
}

/// Puts a text on one line.
pub fn one_line(text: &str) -> String {
    let words = text
        .split(|letter: char| letter.is_whitespace() || letter.is_control())
        .filter(|word| !word.is_empty());
    words
        .collect::<Vec<_>>()
        .join(" ")
        .replace('\0', "\u{fffd}")
}

/// An address of the envelope: lower-cased without its plus part, and that as it was written.
pub fn normal(address: &str) -> (String, Option<String>) {
    let address = bare(address);
    let (local, domain) = address.rsplit_once('@').unwrap_or((address, ""));
    let (local, plus) = match local.split_once('+') {
        Some((local, plus)) if !local.is_empty() => (local, Some(plus)),
        _ => (local, None),
    };
    let plus = plus.filter(|plus| !plus.is_empty());
    let normal = if domain.is_empty() {
        local.to_lowercase()
    } else {
        format!("{local}@{domain}").to_lowercase()
    };
    (normal, plus.map(ToOwned::to_owned))
}

/// An address of the envelope without what is around it.
pub fn bare(address: &str) -> &str {
    let address = match address.rsplit_once('<') {
        Some((_, address)) => address.split('>').next().unwrap_or_default(),
        None => address,
    };
    address.trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: &str) -> Vec<(String, String)> {
        let pair = |address: Address| (address.address, address.name);
        list(value).into_iter().map(pair).collect()
    }

    fn pair(address: &str, name: &str) -> (String, String) {
        (address.to_owned(), name.to_owned())
    }

    #[test]
    fn addresses_are_read_in_all_their_forms() {
        assert_eq!(
            read("\"Whitfield, Dana\" <Dana@X>, b@x (Bob (jr)), Team: c@x, d@x;, <e@x>"),
            [
                pair("dana@x", "Whitfield, Dana"),
                pair("b@x", "Bob (jr)"),
                pair("c@x", ""),
                pair("d@x", ""),
                pair("e@x", "")
            ]
        );
        assert_eq!(read("=?utf-8?Q?J=C3=B6?= <j@x>"), [pair("j@x", "Jö")]);
        assert_eq!(read("\"=?utf-8?Q?J=C3=B6?=\" <j@x>"), [pair("j@x", "Jö")]);
        assert_eq!(
            read("Whitfield, Dana <d@x>"),
            [pair("d@x", "Whitfield, Dana")]
        );
        assert_eq!(read("\"Dana <d@x>"), [pair("d@x", "\"Dana")]);
        assert_eq!(read("undisclosed-recipients:;"), []);
        assert_eq!(read("<@a,@b:c@d>"), [pair("c@d", "")]);
        assert_eq!(read("\"a \\\"b\\\"\" <c@d>"), [pair("c@d", "a \"b\"")]);
        assert_eq!(read(""), []);
    }

    #[test]
    fn plus_parts_keep_their_case() {
        assert_eq!(
            normal("<Support+cv_8Zk2mQ@In.Example>"),
            (
                "support@in.example".to_owned(),
                Some("cv_8Zk2mQ".to_owned())
            )
        );
        assert_eq!(normal("+x@y"), ("+x@y".to_owned(), None));
        assert_eq!(normal("a+@y"), ("a@y".to_owned(), None));
        assert_eq!(normal(""), (String::new(), None));
    }
}
