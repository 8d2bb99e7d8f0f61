//! Reports of mail servers: what became of our mail, whether it was read, who calls it spam.

use super::automatic;
use super::draft::Draft;
use super::header::{self, Headers};
use super::mail::{Arrival, Outcome, Part, Report};
use crate::provider::lenient::cut;

/// The most recipients of a report that are looked at.
const MAX_BLOCKS: usize = 1_000;
/// The longest words of a server that are kept, in bytes.
const MAX_WORDS_BYTES: usize = 1_000;

/// Reads a report; `None` if a mail is none.
pub fn read(draft: &Draft) -> Option<Arrival> {
    let is_report = automatic::content_type(&draft.headers).starts_with("multipart/report");
    let from_machine = draft
        .envelope
        .from
        .as_deref()
        .is_some_and(automatic::is_null)
        || automatic::is_machine(&draft.author().address);
    if !is_report && !from_machine {
        return None;
    }
    let find = |types: &[&str]| {
        let mut parts = draft.parts.iter();
        parts.find(|part| types.contains(&part.content_type.as_str()))
    };
    if find(&[
        "message/disposition-notification",
        "message/global-disposition-notification",
    ])
    .is_some()
        || is_report && automatic::content_type(&draft.headers).contains("disposition-notification")
    {
        return Some(Arrival::Ignored("read_receipt"));
    }
    if let Some(part) = find(&["message/feedback-report"]) {
        return Some(complaint(draft, part));
    }
    if let Some(part) = find(&["message/delivery-status", "message/global-delivery-status"]) {
        return Some(delivery(draft, part));
    }
    let failed = draft
        .headers
        .get("x-failed-recipients")
        .filter(|_| from_machine)?;
    let message_id = message_id(draft)?;
    let words: String = draft
        .blocks
        .iter()
        .map(|block| block.plain.as_str())
        .collect();
    let code = status(&words).unwrap_or_default();
    Some(Arrival::Report(Report {
        message_id,
        other_id: None,
        outcome: Outcome::Failed {
            permanent: !code.starts_with('4'),
            code,
            words: String::new(),
        },
        recipient: failed
            .split(',')
            .next()
            .unwrap_or_default()
            .trim()
            .to_lowercase(),
        accounts: came_to(draft),
    }))
}

/// Reads a report of a delivery. A failure for any recipient counts more than a success.
fn delivery(draft: &Draft, part: &Part) -> Arrival {
    let Some(message_id) = message_id(draft) else {
        return Arrival::Ignored("report_of_other_mail");
    };
    let mut found: Option<(bool, Report)> = None;
    for block in blocks(&part.content) {
        let Some(outcome) = outcome(&block) else {
            continue;
        };
        let fails = matches!(outcome, Outcome::Failed { .. });
        if found.as_ref().is_none_or(|(failed, _)| fails && !failed) {
            let report = Report {
                message_id: message_id.clone(),
                other_id: None,
                outcome,
                recipient: recipient(&block, &["final-recipient", "original-recipient"]),
                accounts: came_to(draft),
            };
            found = Some((fails, report));
        }
    }
    found.map_or(Arrival::Ignored("delivery_goes_on"), |(_, report)| {
        Arrival::Report(report)
    })
}

/// What a report says of one recipient; `None` if nothing is decided.
fn outcome(block: &Headers) -> Option<Outcome> {
    let action = block.get("action")?.trim().to_ascii_lowercase();
    match action.split([' ', ';', '(']).next()? {
        "failed" => {
            let diagnostic = block.get("diagnostic-code").unwrap_or_default();
            let code = block
                .get("status")
                .and_then(status)
                .or_else(|| status(diagnostic));
            let code = code.unwrap_or_default();
            let words = diagnostic
                .split_once(';')
                .map_or(diagnostic, |(_, words)| words);
            // Whatever the code: what is going to be tried again is `delayed`.
            Some(failed(true, code, words))
        }
        "delivered" => Some(Outcome::Delivered),
        _ => None,
    }
}

/// Whose a report may be that came by mail: whom it came to; or, where that is an address for reports
/// alone, who wrote the mail that it is about.
fn came_to(draft: &Draft) -> Vec<String> {
    let (reports, mut accounts): (Vec<_>, Vec<_>) = draft
        .recipients()
        .into_iter()
        .map(|(address, _)| address)
        .partition(|address| address.starts_with("bounce@"));
    if accounts.is_empty() && !reports.is_empty() {
        let from = original(draft).and_then(|headers| headers.get("from").map(ToOwned::to_owned));
        accounts = self::accounts(from);
    }
    accounts
}

/// The addresses of ours that are told of in some fields.
pub fn accounts(fields: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut accounts = Vec::new();
    for field in fields {
        let people = super::address::list_as_written(&field).into_iter();
        for (address, _) in people.map(|address| super::address::normal(&address)) {
            if !address.is_empty() && !accounts.contains(&address) {
                accounts.push(address);
            }
        }
    }
    accounts
}

/// A failure, in words that are not too long.
pub fn failed(permanent: bool, code: String, words: &str) -> Outcome {
    let mut words = super::address::one_line(words);
    cut(&mut words, MAX_WORDS_BYTES);
    Outcome::Failed {
        permanent,
        code,
        words,
    }
}

/// Reads a complaint about our mail.
fn complaint(draft: &Draft, part: &Part) -> Arrival {
    let Some(block) = blocks(&part.content).into_iter().next() else {
        return Arrival::Ignored("empty_report");
    };
    if block
        .get("feedback-type")
        .is_some_and(|kind| kind.eq_ignore_ascii_case("not-spam"))
    {
        return Arrival::Ignored("not_spam");
    }
    let mut recipient = recipient(&block, &["original-rcpt-to", "removal-recipient"]);
    let message = original(draft);
    if let (true, Some(to)) = (
        recipient.is_empty(),
        message.as_ref().and_then(|headers| headers.get("to")),
    ) {
        let people = super::address::list(to);
        recipient = people
            .into_iter()
            .next()
            .map_or_else(String::new, |to| to.address);
    }
    let message_id = message_id(draft).unwrap_or_default();
    if message_id.is_empty() && recipient.is_empty() {
        return Arrival::Ignored("report_of_other_mail");
    }
    Arrival::Report(Report {
        message_id,
        other_id: None,
        outcome: Outcome::Complained,
        recipient,
        accounts: came_to(draft),
    })
}

/// Which of our mails a report is about: by the address it came to, else by what it quotes.
fn message_id(draft: &Draft) -> Option<String> {
    let addresses = draft.recipients();
    let by_address = addresses.into_iter().find_map(|(address, plus)| {
        let (local, domain) = address.split_once('@')?;
        let key = plus.filter(|key| key.contains('.'))?;
        (local == "bounce").then(|| format!("msg.{key}@{domain}"))
    });
    by_address
        .or_else(|| original(draft)?.ids("message-id").into_iter().next())
        .or_else(|| {
            let fields = ["x-original-message-id", "original-message-id"];
            let mut reports = draft
                .parts
                .iter()
                .filter(|part| part.content_type.starts_with("message/"));
            reports.find_map(|part| {
                let blocks = blocks(&part.content);
                let mut ids = blocks
                    .iter()
                    .flat_map(|block| fields.map(|name| block.ids(name)));
                ids.find_map(|ids| ids.into_iter().next())
            })
        })
        .or_else(|| draft.headers.ids("in-reply-to").into_iter().next())
        .or_else(|| draft.headers.ids("references").into_iter().next_back())
}

/// The header of the mail that a report is about, as far as it quotes that.
fn original(draft: &Draft) -> Option<Headers> {
    let types = [
        "message/rfc822",
        "message/global",
        "text/rfc822-headers",
        "message/global-headers",
    ];
    let mut parts = draft.parts.iter();
    let part = parts.find(|part| types.contains(&part.content_type.as_str()))?;
    Some(Headers::of(header::head(&part.content)))
}

/// The blocks of fields of a report, which empty lines part.
fn blocks(content: &[u8]) -> Vec<Headers> {
    let mut blocks = Vec::new();
    let mut rest = content;
    while !rest.is_empty() && blocks.len() < MAX_BLOCKS {
        let block = header::head(rest);
        let after = rest.get(block.len()..).unwrap_or_default();
        rest = after.get(header::end_of_line(after)..).unwrap_or_default();
        if !block.is_empty() {
            blocks.push(Headers::of(block));
        }
    }
    blocks
}

/// The address in the first of the fields that has one: `rfc822; dana@x`.
fn recipient(block: &Headers, names: &[&str]) -> String {
    let mut fields = names.iter().filter_map(|name| block.get(name));
    let field = fields.next().unwrap_or_default();
    let address = field.split_once(';').map_or(field, |(_, address)| address);
    super::address::bare(address).to_lowercase()
}

/// The first status in words: three numbers such as `5.1.1`.
pub fn status(words: &str) -> Option<String> {
    let mut numbers = words
        .split(|letter: char| !letter.is_ascii_digit() && letter != '.')
        .filter(|word| matches!(word.split('.').count(), 3));
    let status = numbers.find(|word| {
        let is_class = word.starts_with("2.") || word.starts_with("4.") || word.starts_with("5.");
        is_class && word.split('.').all(|number| matches!(number.len(), 1..=3))
    })?;
    Some(status.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_found_in_words() {
        assert_eq!(
            status("smtp; 550 5.1.1 user unknown").as_deref(),
            Some("5.1.1")
        );
        assert_eq!(status("550-5.7.26 x").as_deref(), Some("5.7.26"));
        assert_eq!(status("192.0.2.10 9.1.1 5.1. 5.1.1234"), None);
    }

    #[test]
    fn only_a_failed_action_fails() {
        let of = |action: &str| {
            outcome(&Headers::of(
                format!("Action: {action}\nStatus: 4.4.7 (x)").as_bytes(),
            ))
        };
        assert_eq!(of("delayed"), None);
        assert_eq!(of("relayed"), None);
        assert_eq!(of("expanded"), None);
        assert_eq!(of("Delivered"), Some(Outcome::Delivered));
        assert_eq!(of("FAILED (x)"), Some(failed(true, "4.4.7".to_owned(), "")));
    }
}
