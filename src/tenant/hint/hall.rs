//! What is only said: heard by whoever is there, and kept by nobody.

use std::collections::VecDeque;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use bytes::Bytes;
use tokio::sync::broadcast;

/// How much one who is slow may be behind before they miss something.
const BEHIND: usize = 64;
/// The longest that can be said to other servers, in bytes: its words fit into one notification.
const LONGEST: usize = 4096;
/// How many bytes may wait to be said to them.
const WAITING: usize = 64 * 1024;

/// Where what is said of a tenant is heard on this server.
pub struct Hall(broadcast::Sender<Bytes>);

impl Hall {
    pub(super) fn new() -> Self {
        Self(broadcast::channel(BEHIND).0)
    }

    /// Hears what is said from now on.
    pub fn listen(&self) -> broadcast::Receiver<Bytes> {
        self.0.subscribe()
    }

    pub(super) fn say(&self, said: Bytes) {
        // Nobody has to be there.
        let _ = self.0.send(said);
    }
}

/// What is about to be said to other servers.
#[derive(Default)]
pub(super) struct Unsaid {
    words: VecDeque<String>,
    bytes: usize,
}

impl Unsaid {
    /// Adds what is said of a tenant; the oldest goes where that is too much. Tells whether nothing
    /// has waited before.
    pub fn add(&mut self, number: i32, said: &[u8]) -> bool {
        if said.len() > LONGEST {
            tracing::debug!(size_bytes = said.len(), "too long to be said to others");
            return false;
        }
        let is_first = self.words.is_empty();
        let word = format!("{number}:{}", STANDARD_NO_PAD.encode(said));
        self.bytes += word.len();
        self.words.push_back(word);
        let mut dropped = 0;
        while self.bytes > WAITING
            && let Some(oldest) = self.words.pop_front()
        {
            self.bytes -= oldest.len();
            dropped += 1;
        }
        if dropped > 0 {
            tracing::debug!(dropped, "too much is said at once");
        }
        is_first
    }

    /// Takes what waits.
    pub fn take(&mut self) -> VecDeque<String> {
        self.bytes = 0;
        std::mem::take(&mut self.words)
    }
}

/// Reads a word: of which tenant is said what.
pub(super) fn read(word: &str) -> Option<(i32, Bytes)> {
    let (number, said) = word.split_once(':')?;
    let said = STANDARD_NO_PAD.decode(said).ok()?;
    Some((number.parse().ok()?, said.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_reads_back_and_what_is_none_does_not() {
        let mut unsaid = Unsaid::default();
        assert!(unsaid.add(-7, b"any\0 bytes:"));
        let words = unsaid.take();
        assert_eq!(read(&words[0]), Some((-7, Bytes::from("any\0 bytes:"))));
        assert!(unsaid.take().is_empty());
        for none in ["", "7", ":", "7:=", "x:eA", "99999999999:eA"] {
            assert_eq!(read(none), None, "{none}");
        }
    }

    #[test]
    fn of_too_much_the_newest_is_said_and_nothing_that_is_too_long() {
        let mut unsaid = Unsaid::default();
        for byte in 0..=255 {
            assert_eq!(unsaid.add(7, &[byte; LONGEST]), byte == 0);
        }
        assert!(!unsaid.add(7, &[0; LONGEST + 1]));
        let words = unsaid.take();
        assert!(words.iter().map(String::len).sum::<usize>() <= WAITING);
        let last = words.back().and_then(|word| read(word));
        assert_eq!(last, Some((7, vec![255; LONGEST].into())));
        assert!(words.len() > 1 && words.iter().all(|word| word.len() < 7_000));
    }
}
