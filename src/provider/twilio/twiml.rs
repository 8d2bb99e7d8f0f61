//! What Twilio is told to do with a call.

use super::fields::Fields;
use crate::tenant::TwilioCallSettings;

/// What a caller hears while we cannot answer.
pub const FALLBACK: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Response><Say>We cannot take your call right now. Please try again later.</Say></Response>";

/// The answer to a webhook of a call: what to do with it, where it has just begun or nobody was
/// reached, and otherwise nothing. `path` is that of the account's webhooks.
pub fn answer(
    settings: &TwilioCallSettings,
    content_type: &str,
    body: &[u8],
    path: &str,
) -> String {
    let mut verbs = String::new();
    if let Ok(fields) = Fields::read(content_type, body) {
        let status = fields.get("CallStatus");
        let reports = [
            "CallbackSource",
            "RecordingSid",
            "AnsweredBy",
            "Digits",
            "SpeechResult",
        ];
        let is_report = reports.iter().any(|name| fields.given(name).is_some());
        let has_dialled = fields.given("DialCallStatus");
        let begins = fields.get("Direction") == "inbound"
            && matches!(status, "ringing" | "in-progress" | "queued");
        match has_dialled {
            Some("completed" | "answered") => {}
            Some(_) => record(settings, path, &mut verbs),
            None if begins && !is_report => begin(settings, path, &mut verbs),
            None => {}
        }
    }
    format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Response>{verbs}</Response>")
}

fn begin(settings: &TwilioCallSettings, path: &str, verbs: &mut String) {
    if !settings.greeting.is_empty() {
        let language = match settings.greeting_language.as_str() {
            "" => String::new(),
            language => format!(" language=\"{}\"", escaped(language)),
        };
        let greeting = escaped(&settings.greeting);
        verbs.push_str(&format!("<Say{language}>{greeting}</Say>"));
    }
    if settings.forward_to.is_empty() {
        record(settings, path, verbs);
    } else {
        let number = escaped(&settings.forward_to);
        verbs.push_str(&format!(
            "<Dial timeout=\"20\" action=\"{path}/dial\"><Number statusCallback=\"{path}/status\" statusCallbackEvent=\"initiated ringing answered completed\">{number}</Number></Dial>"
        ));
    }
}

fn record(settings: &TwilioCallSettings, path: &str, verbs: &mut String) {
    if settings.voicemail {
        verbs.push_str(&format!(
            "<Record maxLength=\"300\" transcribe=\"true\" transcribeCallback=\"{path}/transcription\" recordingStatusCallback=\"{path}/recording\" action=\"{path}/recording\"/>"
        ));
    }
}

/// A text as XML can hold it.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&apos;"),
            letter if letter.is_control() => escaped.push(' '),
            letter => escaped.push(letter),
        }
    }
    escaped
}
