//! Cuts a text into words.
//!
//! A word is a run of letters, digits and the marks upon them, without regard to case, width,
//! ligatures and diacritics: `Straße`, `STRASSE` and `strasse` are the same, so are `Müller` and
//! `Muller`, `İzmir` and `izmir`. Everything else separates, so that the parts of an address, a
//! link or a hyphenated word are words. A script that is written without spaces, and Hangul, which
//! glues what is looked for to other things, is cut into each character and each pair of
//! neighbours. A pictograph is a word. Groups of digits that look like one number are also found
//! as that number.

use std::fmt::Write as _;
use std::ops::Range;

use unicode_normalization::UnicodeNormalization as _;
use unicode_normalization::char::is_combining_mark;

/// How many characters of a word count.
const LONGEST_WORD: usize = 64;
/// How many words of a text have a place; PostgreSQL knows 16,383.
const MOST_PLACES: usize = 16_000;
/// How many different words of a text are stored.
const MOST_LEXEMES: usize = 8_192;
/// In how many places of a text a word is known to stand; PostgreSQL knows 256.
const MOST_PLACES_OF_WORD: usize = 255;
/// How many digits a number may have that is written in groups: from a local telephone number to
/// an international one.
const GROUPED_DIGITS: std::ops::RangeInclusive<usize> = 7..=15;

/// What a word is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Letters and digits.
    Letters,
    /// One character of a script without spaces; whether it stands alone.
    Single(bool),
    /// Two neighbours of such a script.
    Pair,
    /// A pictograph.
    Symbol,
    /// All digits of groups that stand there as words of their own too.
    Number,
}

/// A word of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    /// The word as it is stored and compared.
    pub lexeme: String,
    /// What it is made of.
    pub kind: Kind,
    /// Its place among the words, from 0.
    pub place: usize,
    /// Where it stands in the text, in bytes.
    pub range: Range<usize>,
}

/// Cuts a text into words, in the order of their places.
pub fn words(text: &str) -> Vec<Word> {
    let mut cutter = Cutter {
        text,
        words: Vec::new(),
        place: 0,
        word: String::new(),
        word_range: 0..0,
        run: Vec::new(),
        groups: Vec::new(),
    };
    let mut folded = String::new();
    let mut rest = text.char_indices().peekable();
    while let Some((start, first)) = rest.next() {
        let mut end = start + first.len_utf8();
        while let Some((at, next)) = rest.next_if(|(_, next)| continues(*next)) {
            end = at + next.len_utf8();
        }
        fold(&text[start..end], &mut folded);
        for character in folded.chars() {
            cutter.take(character, start..end);
        }
    }
    cutter.end_word();
    cutter.end_run();
    cutter.end_number();
    cutter.words.sort_by_key(|word| word.place);
    cutter.words
}

/// Writes the words of a text as a `tsvector`; what is beyond its limits is left out.
pub fn vector(text: &str) -> String {
    let mut words = words(text);
    // Those that are the same stay in the order of their places.
    words.sort_by(|one, other| one.lexeme.cmp(&other.lexeme));
    let mut different: Vec<&[Word]> = words
        .chunk_by(|one, next| one.lexeme == next.lexeme)
        .collect();
    if different.len() > MOST_LEXEMES {
        different.sort_by_key(|same| same.first().map(|word| word.place));
        different.truncate(MOST_LEXEMES);
    }
    let mut vector = String::with_capacity(text.len() * 2);
    for same in different {
        let [first, ..] = same else { continue };
        push_quoted(&mut vector, &first.lexeme);
        let placed = same.iter().filter(|word| word.place < MOST_PLACES);
        let mut separator = ':';
        for word in placed.take(MOST_PLACES_OF_WORD) {
            let _ = write!(vector, "{separator}{}", word.place + 1);
            separator = ',';
        }
        vector.push(' ');
    }
    vector
}

/// Quotes a word for a `tsvector` or a `tsquery`, where nothing in quotes has a meaning.
pub fn quote(lexeme: &str) -> String {
    let mut quoted = String::with_capacity(lexeme.len() + 2);
    push_quoted(&mut quoted, lexeme);
    quoted
}

fn push_quoted(quoted: &mut String, lexeme: &str) {
    quoted.push('\'');
    for character in lexeme.chars() {
        if matches!(character, '\\' | '\'') {
            quoted.push(character);
        }
        quoted.push(character);
    }
    quoted.push('\'');
}

/// A text being cut.
struct Cutter<'a> {
    text: &'a str,
    words: Vec<Word>,
    place: usize,
    /// The letters of the word that has begun.
    word: String,
    word_range: Range<usize>,
    /// The characters of the run without spaces that has begun.
    run: Vec<(char, Range<usize>)>,
    /// The groups of digits that may be one number: digits, place, range.
    groups: Vec<(String, usize, Range<usize>)>,
}

impl Cutter<'_> {
    fn take(&mut self, character: char, range: Range<usize>) {
        if is_unspaced(character) {
            self.end_word();
            self.run.push((character, range));
        } else if character.is_alphanumeric()
            || is_combining_mark(character) && !self.word.is_empty()
        {
            self.end_run();
            if self.word.is_empty() {
                self.word_range = range;
            } else {
                self.word_range.end = range.end;
            }
            self.word.push(character);
        } else {
            self.end_word();
            self.end_run();
            if is_pictograph(character) {
                self.push(character.to_string(), Kind::Symbol, self.place, range);
                self.place += 1;
            }
        }
    }

    fn end_word(&mut self) {
        if self.word.is_empty() {
            return;
        }
        let range = self.word_range.clone();
        let mut cut = self.word.char_indices();
        let end = cut.nth(LONGEST_WORD).map_or(self.word.len(), |(at, _)| at);
        let lexeme = self.word[..end].to_owned();
        if lexeme.bytes().all(|byte| byte.is_ascii_digit()) {
            let whole = self.word.clone();
            if let Some((_, _, last)) = self.groups.last()
                && !joins(&self.text[last.end..range.start])
            {
                self.end_number();
            }
            self.groups.push((whole, self.place, range.clone()));
        } else {
            self.end_number();
        }
        self.word.clear();
        self.push(lexeme, Kind::Letters, self.place, range);
        self.place += 1;
    }

    fn end_run(&mut self) {
        let run = std::mem::take(&mut self.run);
        for (index, (character, range)) in run.iter().enumerate() {
            let place = self.place + index;
            let kind = Kind::Single(run.len() == 1);
            self.push(character.to_string(), kind, place, range.clone());
            if let Some((next, after)) = run.get(index + 1) {
                let pair = [*character, *next].iter().collect();
                self.push(pair, Kind::Pair, place, range.start..after.end);
            }
        }
        self.place += run.len();
    }

    fn end_number(&mut self) {
        let groups = std::mem::take(&mut self.groups);
        if let ([(_, place, first), .., (_, _, last)], digits) = (
            groups.as_slice(),
            groups.iter().map(|(digits, ..)| digits.len()).sum(),
        ) && GROUPED_DIGITS.contains(&digits)
        {
            let number = groups.iter().map(|(digits, ..)| digits.as_str()).collect();
            self.push(number, Kind::Number, *place, first.start..last.end);
        }
    }

    fn push(&mut self, lexeme: String, kind: Kind, place: usize, range: Range<usize>) {
        self.words.push(Word {
            lexeme,
            kind,
            place,
            range,
        });
    }
}

/// Tells whether what stands between two groups of digits lets them be one number.
fn joins(between: &str) -> bool {
    let separates = |character| {
        matches!(
            character,
            ' ' | '\u{a0}' | '\u{202f}' | '-' | '.' | '/' | '(' | ')'
        )
    };
    between.chars().count() <= 2 && between.chars().all(separates)
}

/// Tells whether a character belongs to the one before it.
fn continues(character: char) -> bool {
    if character.is_ascii() {
        return false;
    }
    is_combining_mark(character)
        || is_ignored(character)
        // The vowels and finals of a Hangul syllable that is written in parts, and the voicing of
        // narrow kana.
        || matches!(character, '\u{1160}'..='\u{11ff}' | '\u{ff9e}' | '\u{ff9f}')
}

/// Tells whether a character changes how another one looks, and nothing else.
fn is_ignored(character: char) -> bool {
    matches!(character,
        // The soft hyphen, the Arabic stretch, what joins and parts letters.
        '\u{ad}' | '\u{640}' | '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}'
        | '\u{fe00}'..='\u{fe0f}'
        // Skin tones, and the tags of flags.
        | '\u{1f3fb}'..='\u{1f3ff}' | '\u{e0020}'..='\u{e007f}')
}

/// Tells whether a mark can be left out by who writes the language.
fn is_diacritic(character: char) -> bool {
    matches!(character,
        '\u{300}'..='\u{36f}' | '\u{1ab0}'..='\u{1aff}' | '\u{1dc0}'..='\u{1dff}'
        | '\u{20d0}'..='\u{20ff}' | '\u{fe20}'..='\u{fe2f}'
        // The points of Hebrew and the vowels of Arabic.
        | '\u{591}'..='\u{5c7}' | '\u{610}'..='\u{61a}' | '\u{64b}'..='\u{65f}' | '\u{670}'
        | '\u{6d6}'..='\u{6ed}')
}

/// Writes a character with its marks as it is compared.
fn fold(cluster: &str, folded: &mut String) {
    folded.clear();
    if let [byte] = cluster.as_bytes() {
        folded.push(char::from(byte.to_ascii_lowercase()));
        return;
    }
    let mut before = '\0';
    let plain = cluster
        .nfkd()
        // Up and down again is Unicode's full case folding, and takes the dotless i along.
        .flat_map(char::to_uppercase)
        .flat_map(char::to_lowercase)
        .filter(|character| {
            // й and ў are letters of their own.
            let is_letter = *character == '\u{306}' && matches!(before, 'и' | 'у');
            before = *character;
            is_letter || !is_diacritic(*character) && !is_ignored(*character)
        });
    folded.extend(plain.nfc());
}

/// Tells whether a script is written without spaces between words.
fn is_unspaced(character: char) -> bool {
    matches!(character,
        // Han, kana and bopomofo.
        '\u{3005}'..='\u{3007}' | '\u{3041}'..='\u{309f}' | '\u{30a1}'..='\u{30fa}'
        | '\u{30fc}'..='\u{30ff}' | '\u{3105}'..='\u{312f}' | '\u{31a0}'..='\u{31bf}'
        | '\u{31f0}'..='\u{31ff}' | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}'
        | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{3ffff}'
        // Thai, Lao, Myanmar, Khmer, but not their marks between sentences.
        | '\u{e01}'..='\u{e3a}' | '\u{e40}'..='\u{e4e}' | '\u{e81}'..='\u{ece}'
        | '\u{edc}'..='\u{edf}' | '\u{1000}'..='\u{103f}' | '\u{1050}'..='\u{109f}'
        | '\u{1780}'..='\u{17d3}'
        // Hangul.
        | '\u{1100}'..='\u{11ff}' | '\u{3131}'..='\u{318e}' | '\u{ac00}'..='\u{d7a3}')
}

/// Tells whether a character is a picture.
fn is_pictograph(character: char) -> bool {
    matches!(character,
        '\u{1f000}'..='\u{1faff}' | '\u{2600}'..='\u{27bf}' | '\u{2b00}'..='\u{2bff}'
        | '\u{2300}'..='\u{23ff}' | '\u{25a0}'..='\u{25ff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lexemes(text: &str) -> Vec<String> {
        words(text).into_iter().map(|word| word.lexeme).collect()
    }

    #[test]
    fn case_width_ligatures_and_diacritics_do_not_matter() {
        let same = [
            ["Straße", "STRASSE"],
            ["Müller", "MU\u{308}LLER"],
            ["İstanbul", "istanbul"],
            ["ISPARTA", "ısparta"],
            ["ΟΔΥΣΣΕΎΣ", "οδυσσευς"],
            ["Ёлка", "елка"],
            ["ＡＢＣ１", "abc1"],
            ["ﬁn", "FIN"],
            ["مَرْحَبًا", "مرحبا"],
            ["ｶﾞｷﾞ", "ガギ"],
            ["한글", "\u{1112}\u{1161}\u{11ab}\u{1100}\u{1173}\u{11af}"],
            ["👍🏽", "👍"],
        ];
        for [one, other] in same {
            assert_eq!(lexemes(one), lexemes(other), "{one} and {other}");
        }
        assert_ne!(lexemes("май"), lexemes("маи"));
    }

    #[test]
    fn what_is_not_written_apart_is_cut_into_characters_and_pairs() {
        assert_eq!(lexemes("退款2次"), ["退", "退款", "款", "2", "次"]);
        assert_eq!(lexemes("a\u{200d}b don't"), ["ab", "don", "t"]);
        let places: Vec<_> = words("東京 x").iter().map(|word| word.place).collect();
        assert_eq!(places, [0, 0, 1, 2]);
    }

    #[test]
    fn a_number_in_groups_is_one_too() {
        assert_eq!(
            lexemes("+49 170 123-4567."),
            ["49", "491701234567", "170", "123", "4567"]
        );
        assert_eq!(lexemes("12 34"), ["12", "34"]);
    }

    #[test]
    fn a_word_knows_where_it_stands() {
        let text = "«Größe»: ﬁn 東京!";
        let found: Vec<_> = words(text)
            .into_iter()
            .map(|word| &text[word.range])
            .collect();
        assert_eq!(found, ["Größe", "ﬁn", "東", "東京", "京"]);
    }

    #[test]
    fn no_text_is_beyond_what_the_database_takes() {
        let long = "x".repeat(64 * 1024);
        assert_eq!(vector(&long), format!("'{}':1 ", "x".repeat(64)));
        let often = vector(&"a ".repeat(32 * 1024));
        assert_eq!(often.matches(',').count(), 254);
        let many: String = (0..12_000).map(|number| format!("{number:x} ")).collect();
        assert_eq!(vector(&many).matches(' ').count(), MOST_LEXEMES);
    }
}
