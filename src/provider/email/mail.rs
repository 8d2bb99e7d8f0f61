//! What a provider delivered, whichever road it took.

use bytes::Bytes;
use chrono::{DateTime, Utc};

/// One thing that arrived.
#[derive(Debug, Clone, PartialEq)]
pub enum Arrival {
    /// A mail, of a person or a machine.
    Mail(Box<Mail>),
    /// What became of a mail of ours.
    Report(Report),
    /// A topic asks whether we want what it sends.
    Subscription {
        /// The name of the topic.
        topic: String,
        /// Where to confirm it. Nobody has checked the host.
        url: String,
    },
    /// A mail that is kept elsewhere.
    Stored {
        /// Where.
        place: StoredMail,
        /// Whom it is delivered to: lower-cased, without plus part.
        recipients: Vec<String>,
    },
    /// Nothing for us, and why.
    Ignored(&'static str),
    /// Something that cannot be read, and why.
    Unreadable(String),
}

/// Where in S3 a mail is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredMail {
    /// The topic that told of it, which is in the same region: `arn:aws:sns:eu-west-1:…`.
    pub topic: String,
    /// The bucket.
    pub bucket: String,
    /// The key of the object.
    pub key: String,
}

/// A mail, read.
#[derive(Debug, Clone, PartialEq)]
pub struct Mail {
    /// Who sent it by the envelope; empty is the null sender, `None` is not told.
    pub envelope_from: Option<String>,
    /// Whom it was delivered to: lower-cased, without plus part.
    pub recipients: Vec<String>,
    /// The plus parts of those it was delivered to, as they were written.
    pub plus_keys: Vec<String>,
    /// Its own id, without brackets, or one derived from its content.
    pub message_id: String,
    /// What it answers, without brackets.
    pub in_reply_to: Vec<String>,
    /// What came before it, oldest first.
    pub references: Vec<String>,
    /// Who wrote it.
    pub from: Address,
    /// To whom.
    pub to: Vec<Address>,
    /// And who was to know.
    pub cc: Vec<Address>,
    /// And who was to know without the others' knowing, as far as it is told.
    pub bcc: Vec<Address>,
    /// To whom answers are to go, where that is said.
    pub reply_to: Vec<Address>,
    /// What it is about.
    pub subject: String,
    /// When it was written, if it says so.
    pub date: Option<DateTime<Utc>>,
    /// All its words.
    pub text: String,
    /// Its words without quotes and signature.
    pub visible: String,
    /// Its words as HTML, safe to show.
    pub html: Option<String>,
    /// Its files.
    pub parts: Vec<Part>,
    /// Why it is the mail of a machine, if it is.
    pub automatic: Option<&'static str>,
    /// What the provider thinks of it.
    pub verdicts: Verdicts,
}

/// A person's address and name. The address is lower-cased.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Address {
    /// Where the person is reached.
    pub address: String,
    /// What the person is called; may be empty.
    pub name: String,
}

/// A file of a mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Its label, never a path.
    pub file_name: String,
    /// What it says it is, without parameters.
    pub content_type: String,
    /// How the HTML refers to it, without brackets.
    pub content_id: Option<String>,
    /// Whether it is shown within the words.
    pub inline: bool,
    /// Its bytes; none if they are elsewhere.
    pub content: Bytes,
    /// Where they are, if they did not come with the mail.
    pub url: Option<String>,
}

/// What was said to the provider's server, and what the provider thinks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Envelope {
    /// Who sent the mail; empty is the null sender, `None` is not told.
    pub from: Option<String>,
    /// Whom it is delivered to; none is not told.
    pub recipients: Vec<String>,
    /// What the provider thinks of it.
    pub verdicts: Verdicts,
}

/// The result of one check.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Verdict {
    /// Not made, or without a clear result.
    #[default]
    Unknown,
    /// All is well.
    Pass,
    /// Something is wrong.
    Fail,
}

impl Verdict {
    /// Reads the words of the providers.
    pub(super) fn of(words: &str) -> Self {
        let words = words.trim();
        let first = words
            .split(|letter: char| !letter.is_ascii_alphabetic())
            .next()
            .unwrap_or_default();
        match first.to_ascii_lowercase().as_str() {
            "pass" => Self::Pass,
            "fail" | "hardfail" => Self::Fail,
            _ => Self::Unknown,
        }
    }

    /// Reads whether a mail is flagged as spam.
    pub(super) fn of_flag(words: &str) -> Self {
        let words = words.trim().to_ascii_lowercase();
        if words.starts_with("yes") {
            Self::Fail
        } else if words.starts_with("no") {
            Self::Pass
        } else {
            Self::Unknown
        }
    }
}

/// What the provider checked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Verdicts {
    /// Whether the server may send for the domain.
    pub spf: Verdict,
    /// Whether the domain signed it.
    pub dkim: Verdict,
    /// Whether the domain shown stands behind it.
    pub dmarc: Verdict,
    /// Whether it is wanted.
    pub spam: Verdict,
    /// Whether its files are harmless.
    pub virus: Verdict,
}

/// What became of a mail of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Our id of the mail, without brackets; else the provider's. Empty if a complaint names none.
    pub message_id: String,
    /// What else it is called: the id in our metadata, or the provider's own.
    pub other_id: Option<String>,
    /// What became of it.
    pub outcome: Outcome,
    /// For whom; empty if not told.
    pub recipient: String,
    /// Which addresses of ours it may be for, as far as it is told.
    pub accounts: Vec<String>,
}

/// What became of a mail for one recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The recipient's server took it.
    Delivered,
    /// It did not arrive.
    Failed {
        /// Whether whoever reports it has given up, whatever the reason: nobody tries again.
        permanent: bool,
        /// The status, such as `5.1.1`, or the provider's word.
        code: String,
        /// What the server said.
        words: String,
    },
    /// The recipient calls it spam.
    Complained,
}
