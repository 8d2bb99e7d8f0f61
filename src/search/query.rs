//! What somebody looks for.

use super::word::{Kind, Word, quote, words};

/// How many words a query may have.
const MOST_WORDS: usize = 32;
/// How many characters the beginning of a word must have to stand for all that begin so.
const SHORTEST_PREFIX: usize = 2;
/// Words so close to each other are near.
const NEAR: usize = 5;
/// Of how many parts of a query nearness is looked at.
const MOST_NEAR: usize = 8;

/// What was asked for: words, phrases, beginnings of words, and what must not be there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    terms: Vec<Term>,
    excluded: Vec<Phrase>,
}

/// Something that must be there.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Term {
    phrases: Vec<Phrase>,
    /// The number that the phrases are the groups of, which may be there instead.
    number: Option<Phrase>,
}

/// Words that stand in this order, at these distances.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Phrase {
    /// The words, and how far each is from the first.
    pub words: Vec<(String, usize)>,
    /// Whether the last is only the beginning of a word.
    pub is_prefix: bool,
    /// How many places all of it takes.
    places: usize,
}

/// Words between spaces, or in quotes.
struct Chunk<'a> {
    text: &'a str,
    quoted: bool,
    excluded: bool,
}

impl Query {
    /// Reads a query.
    ///
    /// # Errors
    /// It has no word to look for, or too many; in words that go behind the name of the field.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let mut query = Self {
            terms: Vec::new(),
            excluded: Vec::new(),
        };
        let chunks = chunks(text);
        let mut rest = chunks.as_slice();
        while let [chunk, others @ ..] = rest {
            rest = others;
            if chunk.excluded {
                query.excluded.extend(Phrase::read(chunk));
                continue;
            }
            let groups = 1 + others.iter().take_while(|other| other.is_group()).count();
            if chunk.is_group() && !chunk.quoted && groups > 1 {
                let (more, after) = others.split_at(groups - 1);
                rest = after;
                query.terms.extend(Term::of_groups(chunk, more));
            } else {
                query.terms.extend(Term::read(chunk));
            }
        }
        let count: usize = query.phrases().map(|phrase| phrase.words.len()).sum();
        let count = count + query.excluded.iter().map(|p| p.words.len()).sum::<usize>();
        if query.terms.is_empty() {
            Err("must have a word, a number or a pictograph to look for")
        } else if count > MOST_WORDS {
            Err("must have at most 32 words")
        } else {
            Ok(query)
        }
    }

    /// All of it, as a `tsquery`.
    pub fn exact(&self) -> String {
        let excluded = self.excluded.iter().map(|p| format!("!{}", p.exact()));
        all(self.terms.iter().map(Term::exact).chain(excluded))
    }

    /// What an index can answer without a look at the rows, as a `tsquery`: all that is found, and
    /// perhaps more.
    pub fn probe(&self) -> String {
        let excluded = self.excluded.iter().filter(|p| p.is_word());
        let excluded = excluded.map(|p| format!("!{}", p.exact()));
        all(self.terms.iter().map(Term::probe).chain(excluded))
    }

    /// The same without the beginnings of words, for each of which an index gathers all words
    /// first; `None` where it has none, empty where it has nothing else.
    pub fn probe_without_prefixes(&self) -> Option<String> {
        let has_prefix = |term: &&Term| term.phrases.iter().any(|phrase| phrase.is_prefix);
        self.terms.iter().find(has_prefix)?;
        let others = self.terms.iter().filter(|term| !has_prefix(term));
        Some(all(others.map(Term::probe)))
    }

    /// Tells whether what the index answers has to be looked at.
    pub fn is_checked(&self) -> bool {
        let is_word = |phrase: &Phrase| phrase.is_word();
        !self.phrases().all(is_word) || !self.excluded.iter().all(is_word)
    }

    /// What finds the texts in which all of it stands together, in this order, as a `tsquery`;
    /// `None` where it is a single thing.
    pub fn together(&self) -> Option<String> {
        let mut joined = Phrase {
            words: Vec::new(),
            is_prefix: false,
            places: 0,
        };
        for phrase in self.phrases() {
            let begin = joined.places;
            let words = phrase.words.iter();
            joined
                .words
                .extend(words.map(|(word, at)| (word.clone(), begin + at)));
            joined.places += phrase.places;
            joined.is_prefix = phrase.is_prefix;
        }
        (self.phrases().nth(1).is_some()).then(|| joined.exact())
    }

    /// What finds the texts in which each part of it stands near the next, as a `tsquery`; `None`
    /// where it is a single thing.
    pub fn near(&self) -> Option<String> {
        let heads: Vec<_> = self.phrases().take(MOST_NEAR).map(Phrase::head).collect();
        let pairs = heads.windows(2).map(|pair| {
            let [one, other] = [&pair[0], &pair[1]];
            let either = (1..=NEAR).flat_map(|distance| {
                [
                    format!("{one} <{distance}> {other}"),
                    format!("{other} <{distance}> {one}"),
                ]
            });
            format!("({})", either.collect::<Vec<_>>().join(" | "))
        });
        (heads.len() > 1).then(|| all(pairs))
    }

    /// What a text that was found has: phrases, of which some may be missing.
    pub(super) fn wanted(&self) -> impl Iterator<Item = &Phrase> {
        let numbers = self.terms.iter().filter_map(|term| term.number.as_ref());
        self.phrases().chain(numbers)
    }

    fn phrases(&self) -> impl Iterator<Item = &Phrase> {
        self.terms.iter().flat_map(|term| &term.phrases)
    }
}

impl Chunk<'_> {
    /// Tells whether it is digits that may be a group of a number.
    fn is_group(&self) -> bool {
        let fits = |c: char| c.is_ascii_digit() || matches!(c, '+' | '(' | ')' | '-' | '.' | '/');
        !self.quoted
            && !self.excluded
            && self.text.chars().all(fits)
            && self.text.bytes().any(|byte| byte.is_ascii_digit())
    }
}

impl Term {
    fn read(chunk: &Chunk<'_>) -> Option<Self> {
        Some(Self {
            phrases: vec![Phrase::read(chunk)?],
            number: number(chunk.text),
        })
    }

    fn of_groups(first: &Chunk<'_>, more: &[Chunk<'_>]) -> Option<Self> {
        let groups = std::iter::once(first).chain(more);
        let texts: Vec<_> = groups.clone().map(|chunk| chunk.text).collect();
        let phrases: Vec<_> = groups.filter_map(Phrase::read).collect();
        (!phrases.is_empty()).then(|| Self {
            phrases,
            number: number(&texts.join(" ")),
        })
    }

    fn exact(&self) -> String {
        self.or_number(all(self.phrases.iter().map(Phrase::exact)))
    }

    fn probe(&self) -> String {
        self.or_number(all(self.phrases.iter().map(Phrase::probe)))
    }

    fn or_number(&self, groups: String) -> String {
        match &self.number {
            Some(number) => format!("({groups} | {})", number.exact()),
            None => groups,
        }
    }
}

impl Phrase {
    fn read(chunk: &Chunk<'_>) -> Option<Self> {
        let found = words(chunk.text);
        let places = found.last()?.place + 1;
        let words: Vec<_> = found.iter().filter(|word| is_asked_for(word)).collect();
        let (first, last) = (words.first()?.place, words.last()?);
        let is_prefix = chunk.text.ends_with('*')
            && !chunk.quoted
            && last.kind == Kind::Letters
            && last.lexeme.chars().count() >= SHORTEST_PREFIX;
        Some(Self {
            places: places - first,
            is_prefix,
            words: words
                .iter()
                .map(|word| (word.lexeme.clone(), word.place - first))
                .collect(),
        })
    }

    fn is_word(&self) -> bool {
        self.words.len() == 1 && !self.is_prefix
    }

    fn lexeme(&self, index: usize) -> String {
        let (word, _) = &self.words[index];
        let star = self.is_prefix && index + 1 == self.words.len();
        quote(word) + if star { ":*" } else { "" }
    }

    fn head(&self) -> String {
        self.lexeme(0)
    }

    fn exact(&self) -> String {
        let mut phrase = self.head();
        for index in 1..self.words.len() {
            let distance = self.words[index].1 - self.words[index - 1].1;
            phrase += &format!(" <{distance}> {}", self.lexeme(index));
        }
        format!("({phrase})")
    }

    fn probe(&self) -> String {
        all((0..self.words.len()).map(|index| self.lexeme(index)))
    }
}

/// Tells whether a word of the query has to be found: pairs say all that their characters say.
fn is_asked_for(word: &Word) -> bool {
    match word.kind {
        Kind::Letters | Kind::Pair | Kind::Symbol | Kind::Single(true) => true,
        Kind::Single(false) | Kind::Number => false,
    }
}

/// The number that a text is the groups of.
fn number(text: &str) -> Option<Phrase> {
    let words = words(text);
    let is_number = |word: &Word| word.kind == Kind::Number;
    let digits = |word: &Word| word.lexeme.bytes().all(|byte| byte.is_ascii_digit());
    let number = words.iter().find(|word| is_number(word))?;
    words.iter().all(digits).then(|| Phrase {
        words: vec![(number.lexeme.clone(), 0)],
        is_prefix: false,
        places: 1,
    })
}

fn all(parts: impl Iterator<Item = String>) -> String {
    parts.collect::<Vec<_>>().join(" & ")
}

/// Cuts a query at spaces, but for what is in quotes. A quote that is not closed goes to the end.
fn chunks(text: &str) -> Vec<Chunk<'_>> {
    const QUOTES: [char; 5] = ['"', '“', '”', '„', '‟'];
    let mut chunks = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let bare = rest.strip_prefix('-').filter(|bare| {
            // A minus that stands before nothing excludes nothing.
            !bare.starts_with(char::is_whitespace) && !bare.is_empty()
        });
        let excluded = bare.is_some();
        let begin = bare.unwrap_or(rest);
        let (chunk, after, quoted) = match begin.strip_prefix(QUOTES) {
            Some(inside) => match inside.find(QUOTES) {
                Some(end) => {
                    let after = inside[end..].char_indices().nth(1);
                    let after = after.map_or("", |(next, _)| &inside[end + next..]);
                    (&inside[..end], after, true)
                }
                None => (inside, "", true),
            },
            None => {
                let end = begin.find(|c: char| c.is_whitespace() || QUOTES.contains(&c));
                let (chunk, after) = begin.split_at(end.unwrap_or(begin.len()));
                (chunk, after, false)
            }
        };
        chunks.push(Chunk {
            text: chunk,
            quoted,
            excluded,
        });
        rest = after.trim_start();
    }
    chunks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exact(query: &str) -> String {
        Query::parse(query).unwrap().exact()
    }

    #[test]
    fn a_query_is_words_phrases_beginnings_and_what_must_not_be_there() {
        assert_eq!(
            exact("Hello \"big World\" ord* -spam"),
            "('hello') & ('big' <1> 'world') & ('ord':*) & !('spam')"
        );
        assert_eq!(exact("退款单"), "('退款' <1> '款单')");
        assert_eq!(exact("a*"), "('a')");
        assert_eq!(exact("me@example.com"), "('me' <1> 'example' <1> 'com')");
        assert_eq!(exact("\"款单 ok\""), "('款单' <2> 'ok')");
    }

    #[test]
    fn a_number_is_found_in_groups_and_in_one() {
        assert_eq!(
            exact("+49 170 1234567 call"),
            "(('49') & ('170') & ('1234567') | ('491701234567')) & ('call')"
        );
        assert_eq!(
            exact("0170-1234567"),
            "(('0170' <1> '1234567') | ('01701234567'))"
        );
    }

    #[test]
    fn nothing_that_is_typed_is_an_operator_of_the_database() {
        for hostile in [
            "a' | 'b", "a:* & !b", "a <-> b", "a\\' b", "(a | b)", "a':*AB",
        ] {
            let query = exact(hostile);
            let outside: String = query.split('\'').step_by(2).collect();
            assert!(!outside.contains(['|', '*', '\\']), "{hostile}: {query}");
        }
        assert!(Query::parse("' -- ; \" | & ! <->").is_err());
        assert!(Query::parse("-only").is_err());
        assert!(Query::parse("").is_err());
        assert!(Query::parse(&"a ".repeat(33)).is_err());
    }

    #[test]
    fn several_words_rank_by_how_they_stand() {
        let query = Query::parse("big world").unwrap();
        assert_eq!(query.together().unwrap(), "('big' <1> 'world')");
        assert!(query.near().unwrap().contains("'world' <5> 'big'"));
        let query = Query::parse("世界杯 2026").unwrap();
        assert_eq!(query.together().unwrap(), "('世界' <1> '界杯' <2> '2026')");
        assert_eq!(Query::parse("world").unwrap().together(), None);
        assert_eq!(Query::parse("\"big world\"").unwrap().near(), None);
    }
}
