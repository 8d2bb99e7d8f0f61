//! The signature of Amazon's SNS, through which SES hands over mail.
//!
//! It proves that some topic of Amazon's sent, not that it is ours: the topic has to be compared.

use aws_lc_rs::signature::{
    RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY, RSA_PKCS1_2048_8192_SHA256, RsaParameters,
    UnparsedPublicKey,
};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;
use x509_cert::Certificate;
use x509_cert::der::Decode as _;

/// What SNS carries has at most 256 KiB, which escapes make longer.
const MAX_BODY_BYTES: usize = 2 * 1024 * 1024;

const NOTIFICATION: &str = "Notification";
const CONFIRMATION: &str = "SubscriptionConfirmation";
const UNSUBSCRIPTION: &str = "UnsubscribeConfirmation";

/// What is signed of a notification, in this order.
const OF_NOTIFICATION: &[&str] = &[
    "Message",
    "MessageId",
    "Subject",
    "Timestamp",
    "TopicArn",
    "Type",
];
/// What is signed of a confirmation, in this order.
const OF_CONFIRMATION: &[&str] = &[
    "Message",
    "MessageId",
    "SubscribeURL",
    "Timestamp",
    "Token",
    "TopicArn",
    "Type",
];

/// Returns where the certificate of a message is, if that is at Amazon's.
pub fn certificate_url(body: &[u8]) -> Option<String> {
    let message = message(body)?;
    let url = text(&message, "SigningCertURL")?;
    let path = path_at_amazon(url)?;
    let is_certificate = path.ends_with(".pem") && !path.contains(['?', '#']);
    is_certificate.then(|| url.to_owned())
}

/// Returns the topic that sent a message.
pub fn topic(body: &[u8]) -> Option<String> {
    text(&message(body)?, "TopicArn").map(str::to_owned)
}

/// Tells whether the owner of a certificate, which is at [`certificate_url`], signed a message.
pub fn is_signed_by(certificate_pem: &[u8], body: &[u8]) -> bool {
    let (Some(key), Some(message)) = (public_key(certificate_pem), message(body)) else {
        return false;
    };
    let (Some(algorithm), Some(signature)) = (algorithm(&message), signature(&message)) else {
        return false;
    };
    signed_text(&message).is_some_and(|text| {
        UnparsedPublicKey::new(algorithm, key)
            .verify(text.as_bytes(), &signature)
            .is_ok()
    })
}

/// Joins what is signed: a line for each name and for each value.
fn signed_text(message: &Value) -> Option<String> {
    let names = match text(message, "Type")? {
        NOTIFICATION => OF_NOTIFICATION,
        CONFIRMATION | UNSUBSCRIPTION => OF_CONFIRMATION,
        _ => return None,
    };
    let mut joined = String::new();
    for name in names {
        match message.get(name) {
            Some(Value::String(value)) => {
                joined.extend([*name, "\n", value.as_str(), "\n"]);
            }
            // The only one that may be missing.
            None | Some(Value::Null) if *name == "Subject" => {}
            _ => return None,
        }
    }
    Some(joined)
}

fn algorithm(message: &Value) -> Option<&'static RsaParameters> {
    match text(message, "SignatureVersion")? {
        "1" => Some(&RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY),
        "2" => Some(&RSA_PKCS1_2048_8192_SHA256),
        _ => None,
    }
}

fn signature(message: &Value) -> Option<Vec<u8>> {
    BASE64_STANDARD.decode(text(message, "Signature")?).ok()
}

/// Reads the public key of the first certificate.
fn public_key(certificate_pem: &[u8]) -> Option<Vec<u8>> {
    let text = str::from_utf8(certificate_pem).ok()?;
    let (_, after) = text.split_once("-----BEGIN CERTIFICATE-----")?;
    let (lines, _) = after.split_once("-----END CERTIFICATE-----")?;
    let digits: String = lines.split_ascii_whitespace().collect();
    let der = BASE64_STANDARD.decode(digits).ok()?;
    let certificate = Certificate::from_der(&der).ok()?.tbs_certificate;
    let key = certificate.subject_public_key_info.subject_public_key;
    key.as_bytes().map(<[u8]>::to_vec)
}

/// Returns what follows the host of a URL, if that is a host of SNS.
fn path_at_amazon(url: &str) -> Option<&str> {
    let is_plain = url
        .bytes()
        .all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    let rest = url.strip_prefix("https://").filter(|_| is_plain)?;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at_checked(end)?;
    let host = authority.strip_suffix(":443").unwrap_or(authority);
    let host = host.strip_suffix(".cn").unwrap_or(host);
    let region = host.strip_prefix("sns.")?.strip_suffix(".amazonaws.com")?;
    let is_region = region.len() >= 3
        && region
            .bytes()
            .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'));
    is_region.then_some(path)
}

fn message(body: &[u8]) -> Option<Value> {
    if body.len() > MAX_BODY_BYTES {
        return None;
    }
    serde_json::from_slice(body).ok()
}

fn text<'a>(message: &'a Value, name: &str) -> Option<&'a str> {
    message.get(name)?.as_str()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Made for this test, with a key that was thrown away.
    const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----
MIIDBzCCAe+gAwIBAgIUdhkEI9tS4yddOSfW9pIJgVLiG/swDQYJKoZIhvcNAQEL
BQAwEzERMA8GA1UEAwwIc25zLnRlc3QwHhcNMjYxMTI2MDIwMzI5WhcNMzYxMTIz
MDIwMzI5WjATMREwDwYDVQQDDAhzbnMudGVzdDCCASIwDQYJKoZIhvcNAQEBBQAD
ggEPADCCAQoCggEBAK0ptkQf6Uzv1sGdUwI+BpSIg/7hO3X0HfySBymd7EhH8p9m
SeIzs1C8f1cXdAD64s0xFIqoc4LOUT0+NhyT8pF7KO5R6CtdqSUQd3WIR6XKARtl
lxsslG69a16P2RBU5mrCtH93op1PsIo2NNfMpt5FBwpKXf7in0dht7q4N2TtHRkN
yAUShv3Z2yuu98apUeEANwWBL3wocXhmfDrSVs0tYBeLpzEmmGmd+7J7teKmHhN/
KW768b5hBDQR+JZqDFQRxQqBivX/DFXWsubIpDbXmL/xW4QKAtIWFqjXRq7cfGz6
a6/VpbDrsEjlhumCMNC2GzvCytVVOTBKI2DJHksCAwEAAaNTMFEwHQYDVR0OBBYE
FLtTn0wxgVgaKjkvwDSMllKahL5DMB8GA1UdIwQYMBaAFLtTn0wxgVgaKjkvwDSM
llKahL5DMA8GA1UdEwEB/wQFMAMBAf8wDQYJKoZIhvcNAQELBQADggEBAJ7OgaNv
oQwBi+z/WHHzC6QVYjGhSjsQNv7/7MWZFzglAK1Yph1reR0rWKimMifGbnK0pPEn
85V+BOxnwoBHAv1aHQz7Rjxun9XF1KIcutuNkxnxUvNfTCivY8TFe2nz7JOyjTDI
NiGwW/PoWucgVPb+fGnrbd5GARkYno2gPwnvKY3UvC6xl132rDYXmGCO4WiKYmPo
6vxQa9wPziaY4k7VBwunulGxba1TmJxmlgboy3R2MnWUL7PRsYcisP35n+5GkRcH
mW6Dq09SAAhwctlmjV5GugSvhWnT1Q5txoZzVRc53haVv3iD6ICw8fOxQtfPea4t
PImK76pTDpfTFWQ=
-----END CERTIFICATE-----
";
    /// Of version 1, over the message of `old`.
    const OLD_SIGNATURE: &str = "SvwN/8PjI/MbpGrT2p+h48MbxgVhuROi1Cw8kvS5E5pJSpfpi5bmSMbXxi6u9aNgj7B+Soczmcel\
         vGETahHAsxXougk1MGoiWHUWZquS4h+HgfZ/GD7IxzQS5Ji8OffysTEnU7FlCzE6leDLQfabDcha\
         Wci0FGep5qpDaoUkU2PRInWkFnHHlnKB2sLQbGbSMYROqeA+HQ9xWhmLbvhSOlZbFfrRcKjGmzcI\
         9AcTyR3N21bZwb9w6OVMIcz0qbxDVdjSBntZi9mgRZxUdmN2LVR5BG3l7rZ5grU5OfhlJuCE6Q5J\
         xTmuvJTNSfsjuyBTA12L8cJj9lmnn9bi7/aHxg==";

    fn old() -> Value {
        json!({
            "Type": NOTIFICATION, "MessageId": "1", "TopicArn": "arn:aws:sns:eu-west-1:1:a",
            "Message": "Ol\u{e1}\n\u{0}", "Timestamp": "2026-03-14T09:20:03.000Z",
            "SignatureVersion": "1", "Signature": OLD_SIGNATURE,
        })
    }

    fn believes(message: &Value) -> bool {
        is_signed_by(CERTIFICATE.as_bytes(), message.to_string().as_bytes())
    }

    #[test]
    fn the_old_version_without_a_subject_is_believed() {
        assert!(believes(&old()));
        let mut message = old();
        message["Subject"] = Value::Null;
        message["More"] = json!(1);
        assert!(believes(&message));
    }

    #[test]
    fn what_is_signed_cannot_be_changed() {
        for (name, value) in [
            ("Message", json!("Ol\u{e1}\n")),
            ("MessageId", json!(1)),
            ("Subject", json!("")),
            ("TopicArn", json!("arn:aws:sns:eu-west-1:1:b")),
            ("Timestamp", Value::Null),
            ("Type", json!(CONFIRMATION)),
            ("Type", json!("Other")),
            ("SignatureVersion", json!("2")),
            ("SignatureVersion", json!("3")),
            ("SignatureVersion", json!(1)),
            ("Signature", json!("")),
            ("Signature", json!(format!(" {OLD_SIGNATURE}"))),
            ("Signature", json!(OLD_SIGNATURE.replace("==", ""))),
        ] {
            let mut message = old();
            message[name] = value;
            assert!(!believes(&message), "{name}");
        }
        let body = old().to_string();
        assert!(!is_signed_by(b"", body.as_bytes()));
        assert!(!is_signed_by(
            CERTIFICATE.replace("MII", "MIJ").as_bytes(),
            body.as_bytes()
        ));
        assert!(!is_signed_by(CERTIFICATE.as_bytes(), b"{}"));
        assert!(!is_signed_by(CERTIFICATE.as_bytes(), b"["));
        let padded = body + &" ".repeat(MAX_BODY_BYTES);
        assert!(!is_signed_by(CERTIFICATE.as_bytes(), padded.as_bytes()));
    }

    #[test]
    fn certificates_are_at_amazons() {
        let url =
            |url: &str| certificate_url(json!({ "SigningCertURL": url }).to_string().as_bytes());
        for good in [
            "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-01.pem",
            "https://sns.cn-north-1.amazonaws.com.cn/a.pem",
            "https://sns.us-east-1.amazonaws.com:443/a.pem",
        ] {
            assert_eq!(url(good).as_deref(), Some(good));
        }
        for bad in [
            "http://sns.eu-west-1.amazonaws.com/a.pem",
            "HTTPS://sns.eu-west-1.amazonaws.com/a.pem",
            "https://sns.eu-west-1.amazonaws.com.evil.example/a.pem",
            "https://sns.eu-west-1.amazonaws.com:444/a.pem",
            "https://sns.eu-west-1.amazonaws.com:/a.pem",
            "https://sns.eu-west-1.amazonaws.com@evil.example/a.pem",
            "https://a@sns.eu-west-1.amazonaws.com/a.pem",
            "https://evil.example/sns.eu-west-1.amazonaws.com/a.pem",
            "https://evil.example\\@sns.eu-west-1.amazonaws.com/a.pem",
            "https://evil.example#.sns.eu-west-1.amazonaws.com/a.pem",
            "https://sns.evil.eu-west-1.amazonaws.com/a.pem",
            "https://sns.eu.amazonaws.com/a.pem",
            "https://sns.EU-west-1.amazonaws.com/a.pem",
            "https://sns..amazonaws.com/a.pem",
            "https://sns.amazonaws.com/a.pem",
            "https://xsns.eu-west-1.amazonaws.com/a.pem",
            "https://sns.eu-west-1.amazonaws.com.cn.cn/a.pem",
            "https://sns.eu-west-1.amazonaws.com./a.pem",
            "https://sns.eu-west-1.amazonaws.com/a.pem?b",
            "https://sns.eu-west-1.amazonaws.com/?a=.pem",
            "https://sns.eu-west-1.amazonaws.com/a#.pem",
            "https://sns.eu-west-1.amazonaws.com/a.crt",
            "https://sns.eu-west-1.amazonaws.com",
            " https://sns.eu-west-1.amazonaws.com/a.pem",
            "https://sns.eu-west-1.amazonaws.com/\na.pem",
            "",
        ] {
            assert_eq!(url(bad), None, "{bad}");
        }
    }
}
