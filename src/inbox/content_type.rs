//! What a file is: as its sender says, and as its first bytes prove.

/// What a file is of which nothing is known.
pub const UNKNOWN: &str = "application/octet-stream";
/// How many of the first bytes are looked at.
const BEGINNING: usize = 8192;

/// Reads a content type, with parameters if it has any; `None` if it is none.
pub fn parse(text: &str) -> Option<String> {
    let (essence, parameters) = match text.split_once(';') {
        Some((essence, parameters)) => (essence.trim_end(), Some(parameters.trim())),
        None => (text, None),
    };
    let (kind, name) = essence.split_once('/')?;
    let is_token = |text: &str| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&byte);
        !text.is_empty() && text.bytes().all(allowed)
    };
    let is_printable = |text: &str| text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    if !is_token(kind) || !is_token(name) || !parameters.is_none_or(is_printable) {
        return None;
    }
    let essence = essence.to_ascii_lowercase();
    Some(match parameters {
        Some(parameters) if !parameters.is_empty() => format!("{essence}; {parameters}"),
        _ => essence,
    })
}

/// Decides what a file is by what its sender says and how it begins; `None` if these contradict
/// each other.
pub fn settle(said: Option<&str>, content: &[u8]) -> Option<String> {
    let beginning = content.get(..BEGINNING).unwrap_or(content);
    let proved = infer::get(beginning).map(|proved| registered(proved.mime_type()));
    let said = said.filter(|said| essence(said) != UNKNOWN);
    let settled = match (said, proved) {
        (None, proved) => proved.unwrap_or(UNKNOWN),
        // The formats of pictures are told by their first bytes.
        (Some(said), None) if kind(said) == "image" && is_provable(said) => return None,
        (Some(said), None) => said,
        (Some(said), Some(proved)) if may_hold(proved, said) => said,
        (Some(said), Some(proved)) if kind(said) == "application" => proved,
        (Some(said), Some(proved)) if kind(said) != kind(proved) => return None,
        (Some(said), Some(proved)) if is_provable(said) => proved,
        (Some(said), Some(_)) => said,
    };
    Some(settled.to_owned())
}

/// What the first bytes of a file prove that it is, and how names of such files end.
pub fn prove(content: &[u8]) -> (&'static str, Option<&'static str>) {
    let beginning = content.get(..BEGINNING).unwrap_or(content);
    infer::get(beginning).map_or((UNKNOWN, None), |proved| {
        (registered(proved.mime_type()), Some(proved.extension()))
    })
}

/// Tells whether a file that begins like `proved` may be what its sender says.
fn may_hold(proved: &str, said: &str) -> bool {
    match proved {
        _ if proved == essence(said) => true,
        "application/zip" | "application/gzip" | "application/x-ole-storage" => {
            kind(said) == "application"
        }
        "text/xml" => essence(said).ends_with("xml") || kind(said) == "text",
        "audio/ogg" | "audio/mp4" | "video/mp4" | "video/webm" | "video/x-matroska"
        | "video/quicktime" => matches!(kind(said), "audio" | "video"),
        _ => false,
    }
}

/// Tells whether a type can be told by the first bytes.
fn is_provable(said: &str) -> bool {
    infer::is_mime_supported(essence(said))
}

/// The registered name of a type.
fn registered(name: &'static str) -> &'static str {
    match name {
        "audio/m4a" => "audio/mp4",
        "audio/opus" => "audio/ogg",
        "audio/x-flac" => "audio/flac",
        "audio/x-wav" => "audio/wav",
        "video/x-m4v" => "video/mp4",
        name => name,
    }
}

fn essence(content_type: &str) -> &str {
    content_type.split(';').next().unwrap_or_default()
}

fn kind(content_type: &str) -> &str {
    content_type.split('/').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR";
    const JPEG: &[u8] = b"\xff\xd8\xff\xe0\0\x10JFIF\0";
    const ZIP: &[u8] = b"PK\x03\x04\x14\0\0\0\0\0";
    const MP4: &[u8] = b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom";
    const OPUS: &[u8] = b"OggS\0\x02\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\x13OpusHead";
    const ELF: &[u8] = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x3e\0\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

    #[test]
    fn a_type_is_two_words_and_perhaps_parameters() {
        assert_eq!(parse("image/PNG").as_deref(), Some("image/png"));
        assert_eq!(
            parse("text/plain ;charset=UTF-8").as_deref(),
            Some("text/plain; charset=UTF-8")
        );
        assert_eq!(parse("text/plain;").as_deref(), Some("text/plain"));
        for wrong in [
            "image",
            "/png",
            "image/",
            "a b/c",
            "a/b/c",
            "a/b\n",
            "a/b; c\nd",
            "ä/b",
        ] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_first_bytes_win_or_refuse() {
        // Said, content, settled; none where it is refused.
        let cases: &[(&str, &[u8], Option<&str>)] = &[
            ("", PNG, Some("image/png")),
            ("", b"hello", Some("application/octet-stream")),
            ("", b"", Some("application/octet-stream")),
            ("application/octet-stream", JPEG, Some("image/jpeg")),
            ("image/png", PNG, Some("image/png")),
            ("image/png", JPEG, Some("image/jpeg")),
            ("image/jpg", JPEG, Some("image/jpg")),
            ("application/pdf", JPEG, Some("image/jpeg")),
            ("text/plain", PNG, None),
            ("text/plain", ELF, None),
            ("image/png", ELF, None),
            ("image/png", ZIP, None),
            ("image/png", MP4, None),
            ("image/png", b"hello", None),
            ("image/png", b"", None),
            ("image/png", b"<html><body>", None),
            ("image/x-made-up", b"hello", Some("image/x-made-up")),
            (
                "image/svg+xml",
                b"<?xml version=\"1.0\"?><svg/>",
                Some("image/svg+xml"),
            ),
            ("text/csv", b"a,b", Some("text/csv")),
            (
                "text/plain; charset=utf-8",
                b"hello",
                Some("text/plain; charset=utf-8"),
            ),
            (
                "application/vnd.android.package-archive",
                ZIP,
                Some("application/vnd.android.package-archive"),
            ),
            ("audio/mp4", MP4, Some("audio/mp4")),
            ("video/mp4", MP4, Some("video/mp4")),
            (
                "audio/ogg; codecs=opus",
                OPUS,
                Some("audio/ogg; codecs=opus"),
            ),
            ("audio/mpeg", b"\xff\xf3\x44\xc4", Some("audio/mpeg")),
            ("audio/mpeg", PNG, None),
        ];
        for (said, content, settled) in cases {
            let said = (!said.is_empty()).then_some(*said);
            assert_eq!(
                settle(said, content).as_deref(),
                *settled,
                "{said:?} {content:?}"
            );
        }
    }
}
