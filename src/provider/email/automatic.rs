//! Tells the mail of machines, which nobody waits for an answer to.

use super::header::Headers;

/// What is known of a mail.
pub struct Signs<'a> {
    /// Its header.
    pub headers: &'a Headers,
    /// Who sent it by the envelope.
    pub envelope_from: Option<&'a str>,
    /// Whom it was delivered to.
    pub recipients: &'a [String],
    /// The address of who wrote it.
    pub from: &'a str,
    /// Its id.
    pub message_id: &'a str,
}

/// Why a mail is of a machine, if it is.
pub fn reason(signs: &Signs<'_>) -> Option<&'static str> {
    let headers = signs.headers;
    let has = |name: &str| headers.get(name).is_some();
    let submitted = headers.all("auto-submitted").map(first_word);
    let precedence = headers.all("precedence").map(first_word);
    if content_type(headers).starts_with("multipart/report") {
        return Some("report");
    }
    if signs.envelope_from.is_some_and(is_null) {
        return Some("null_sender");
    }
    if is_ours(signs) {
        return Some("loop");
    }
    if submitted.into_iter().any(|word| word != "no") {
        return Some("auto_submitted");
    }
    if [
        "x-autoreply",
        "x-autorespond",
        "x-auto-response",
        "x-autoresponder",
    ]
    .iter()
    .any(|name| has(name))
    {
        return Some("auto_reply");
    }
    let is_bulk = |word: String| matches!(word.as_str(), "bulk" | "list" | "junk" | "auto_reply");
    if precedence.into_iter().any(is_bulk) {
        return Some("precedence");
    }
    if has("list-id") || has("list-unsubscribe") {
        return Some("list");
    }
    is_machine(signs.from).then_some("sender")
}

/// Whether an address of the envelope is the null sender.
pub fn is_null(address: &str) -> bool {
    let address = address.trim();
    address.is_empty() || address == "<>"
}

/// The type of a mail in lower case.
pub fn content_type(headers: &Headers) -> String {
    headers
        .get("content-type")
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase()
}

/// Whether a mail went out from us: it has an id such as we make, or a mark of ours.
fn is_ours(signs: &Signs<'_>) -> bool {
    let domains = signs
        .recipients
        .iter()
        .filter_map(|recipient| recipient.rsplit_once('@'));
    let is_our_domain = |domain: &str| {
        domains
            .clone()
            .any(|(_, ours)| ours.eq_ignore_ascii_case(domain))
    };
    let own_id = signs
        .message_id
        .rsplit_once('@')
        .is_some_and(|(id, domain)| {
            id.starts_with("msg.") && id.split('.').count() >= 3 && is_our_domain(domain)
        });
    own_id
        || signs.headers.all("x-loop").any(|mark| {
            let mark = mark.trim().to_lowercase();
            signs.recipients.contains(&mark) || is_our_domain(&mark)
        })
}

/// Whether nobody reads the answers to an address.
pub fn is_machine(address: &str) -> bool {
    let (local, _) = address.split_once('@').unwrap_or((address, ""));
    let local = local.to_ascii_lowercase();
    let words: Vec<&str> = local
        .split(|letter: char| !letter.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty())
        .collect();
    let alone = ["noreply", "donotreply", "bounce", "bounces", "mailerdaemon"];
    local == "postmaster"
        || words.iter().any(|word| alone.contains(word))
        || words
            .windows(2)
            .any(|pair| matches!(pair, ["no" | "not", "reply"] | ["mailer", "daemon"]))
}

/// The first word of a value in lower case.
fn first_word(value: &str) -> String {
    let word = value
        .split([';', ' ', '\t', '('])
        .find(|word| !word.is_empty());
    word.unwrap_or_default().to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(
        header: &str,
        envelope_from: &str,
        from: &str,
        message_id: &str,
    ) -> Option<&'static str> {
        reason(&Signs {
            headers: &Headers::of(header.as_bytes()),
            envelope_from: Some(envelope_from),
            recipients: &["support@in.example".to_owned()],
            from,
            message_id,
        })
    }

    #[test]
    fn machines_are_told_by_their_headers() {
        let by = |header: &str| told(header, "a@b", "a@b", "x@b");
        assert_eq!(
            by("Auto-Submitted: auto-replied (x)"),
            Some("auto_submitted")
        );
        assert_eq!(by("Auto-Submitted: NO; x"), None);
        assert_eq!(by("X-Autorespond: x"), Some("auto_reply"));
        assert_eq!(by("Precedence: Bulk"), Some("precedence"));
        assert_eq!(by("Precedence: first-class"), None);
        assert_eq!(by("List-Unsubscribe: <x>"), Some("list"));
        assert_eq!(by("X-Auto-Response-Suppress: All"), None);
        assert_eq!(by("Content-Type: Multipart/Report; x"), Some("report"));
        assert_eq!(by("X-Loop: Support@in.example"), Some("loop"));
        assert_eq!(told("", "", "a@b", "x@b"), Some("null_sender"));
        assert_eq!(told("", "<>", "a@b", "x@b"), Some("null_sender"));
        assert_eq!(told("", "a@b", "a@b", "msg.1.key@in.example"), Some("loop"));
        assert_eq!(told("", "a@b", "a@b", "msg.1.key@b"), None);
    }

    #[test]
    fn machines_are_told_by_their_addresses() {
        for address in [
            "MAILER-DAEMON@x",
            "postmaster@x",
            "no-reply@x",
            "noreply@x",
            "orders.noreply@x",
            "do_not_reply@x",
            "bounce+1@x",
            "bounces@x",
        ] {
            assert!(is_machine(address), "{address}");
        }
        for address in [
            "dana@x",
            "bouncer@x",
            "reply@x",
            "postmaster.dana@x",
            "no@reply",
            "",
        ] {
            assert!(!is_machine(address), "{address}");
        }
    }
}
