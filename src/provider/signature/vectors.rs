//! Every sample of a signature is judged as it should be.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;

use super::{gateway, mailgun, meta, sendgrid, sns, twilio, widget, zendesk};

const SAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/samples");

fn file(name: &str) -> Vec<u8> {
    fs::read(Path::new(SAMPLES).join(name)).unwrap()
}

fn text<'a>(vector: &'a Value, name: &str) -> &'a str {
    vector[name].as_str().unwrap()
}

fn now(vector: &Value) -> i64 {
    vector["now"].as_i64().unwrap()
}

fn body(vector: &Value) -> Vec<u8> {
    match (&vector["body_file"], &vector["body"]) {
        (Value::String(name), _) => file(name),
        (_, Value::String(body)) => body.clone().into_bytes(),
        _ => Vec::new(),
    }
}

fn headers(vector: &Value) -> HeaderMap {
    let headers = vector["headers"].as_object().unwrap().iter();
    headers
        .map(|(name, value)| {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            (
                name,
                HeaderValue::from_str(value.as_str().unwrap()).unwrap(),
            )
        })
        .collect()
}

fn content_type(headers: &HeaderMap) -> Option<&str> {
    headers
        .get("content-type")
        .map(|value| value.to_str().unwrap())
}

fn is_twilios(vector: &Value) -> bool {
    let url = vector["public_url"].as_str().unwrap_or(text(vector, "url"));
    let headers = headers(vector);
    let (content_type, body) = match vector["params"].as_array() {
        None => (content_type(&headers), body(vector)),
        Some(pairs) => {
            let mut form = form_urlencoded::Serializer::new(String::new());
            for pair in pairs {
                form.append_pair(pair[0].as_str().unwrap(), pair[1].as_str().unwrap());
            }
            (
                Some("application/x-www-form-urlencoded"),
                form.finish().into_bytes(),
            )
        }
    };
    let urls = [url.to_owned()];
    twilio::is_signed_by(text(vector, "secret"), &urls, content_type, &body, &headers)
}

fn is_mailguns(vector: &Value) -> bool {
    let (timestamp, token) = (
        text(&vector["signed"], "timestamp"),
        text(&vector["signed"], "token"),
    );
    let body = match vector["body_file"].as_str() {
        Some(name) => file(name),
        None => {
            let signature = text(vector, "expected");
            format!("timestamp={timestamp}&token={token}&signature={signature}").into_bytes()
        }
    };
    let form = Some("application/x-www-form-urlencoded");
    let signed = mailgun::signed(text(vector, "secret"), now(vector), form, &body);
    signed.is_some_and(|signed| signed.token == token)
}

fn is_sendgrids(vector: &Value) -> bool {
    let key = text(vector, "public_key");
    sendgrid::is_signed_by(
        key,
        sendgrid::WINDOW,
        now(vector),
        &headers(vector),
        &body(vector),
    )
}

fn is_amazons(vector: &Value) -> bool {
    let Some(certificate) = vector["cert_file"].as_str() else {
        let mut body: Value =
            serde_json::from_slice(&file("email/41_sns_ses_received.json")).unwrap();
        body["SigningCertURL"] = "https://sns.eu-west-1.amazonaws.com.evil.example/x.pem".into();
        return sns::certificate_url(body.to_string().as_bytes()).is_some();
    };
    let body = body(vector);
    assert_eq!(
        sns::topic(&body).unwrap(),
        "arn:aws:sns:eu-west-1:111111111111:inbox-inbound"
    );
    sns::certificate_url(&body).is_some() && sns::is_signed_by(&file(certificate), &body)
}

fn is_zendesks(vector: &Value, in_setup: bool) -> bool {
    let secret = text(vector, "secret");
    zendesk::is_signed_by(
        secret,
        in_setup,
        now(vector),
        &headers(vector),
        &body(vector),
    )
}

fn is_believed(vector: &Value) -> bool {
    let secret = || text(vector, "secret");
    match text(vector, "scheme") {
        "meta-sha256" => {
            let signature = meta::signature(&headers(vector));
            signature
                .is_some_and(|signature| meta::is_signed_by(secret(), &body(vector), &signature))
        }
        "twilio-sha1" => is_twilios(vector),
        "mailgun-hmac" => is_mailguns(vector),
        "sendgrid-ecdsa" => is_sendgrids(vector),
        "sns-v2" => is_amazons(vector),
        "zendesk-hmac" => is_zendesks(vector, false),
        "waha-hmac-sha512" => gateway::is_signed_by(secret(), &headers(vector), &body(vector)),
        "evolution-jwt-hs256" => gateway::is_sent_by(secret(), now(vector), &headers(vector)),
        "widget-identity-hmac" => {
            let (user_id, hash) = (text(vector, "signed"), text(vector, "expected"));
            widget::is_proved_by(secret(), user_id, hash)
        }
        other => panic!("nobody checks {other}"),
    }
}

#[test]
fn every_sample_is_judged_as_it_should_be() {
    let document: Value = serde_json::from_slice(&file("vectors.json")).unwrap();
    let mut counts = BTreeMap::new();
    for vector in document["vectors"].as_array().unwrap() {
        let (scheme, id) = (text(vector, "scheme"), text(vector, "id"));
        // What we sign, and what Gmail comes with.
        let later = ["standard-webhooks-v1", "google-oidc"];
        if later.contains(&scheme) {
            continue;
        }
        *counts.entry(scheme).or_insert(0) += 1;
        let expected = match &vector["valid"] {
            Value::Bool(is_valid) => *is_valid,
            Value::String(when) if when == "only in setup mode" => {
                assert!(is_zendesks(vector, true), "{id}");
                false
            }
            // The token is good each time; that it was seen before is for the caller to know.
            Value::String(when) if when == "second time: duplicate" => true,
            // Either is right; hexadecimal digits are digits.
            Value::Null => true,
            other => panic!("{id} is valid: {other}"),
        };
        assert_eq!(is_believed(vector), expected, "{id}");
    }
    let expected = [
        ("evolution-jwt-hs256", 2),
        ("mailgun-hmac", 3),
        ("meta-sha256", 10),
        ("sendgrid-ecdsa", 2),
        ("sns-v2", 3),
        ("twilio-sha1", 31),
        ("waha-hmac-sha512", 4),
        ("widget-identity-hmac", 2),
        ("zendesk-hmac", 6),
    ];
    assert_eq!(counts, BTreeMap::from(expected));
}

#[test]
fn mailguns_samples_are_signed_whatever_their_kind() {
    let document: Value = serde_json::from_slice(&file("vectors.json")).unwrap();
    let secret = text(&document["secrets"], "mailgun_signing_key");
    let parts = "multipart/form-data; boundary=----mgBoundary7MA4YWxk";
    for (name, kind) in [
        (
            "20_mailgun_parsed.form",
            "application/x-www-form-urlencoded",
        ),
        ("21_mailgun_attachments.multipart", parts),
        (
            "22_mailgun_raw_mime.form",
            "application/x-www-form-urlencoded",
        ),
        ("23_mailgun_event_failed.json", "application/json"),
    ] {
        let body = file(&format!("email/{name}"));
        let signed = mailgun::signed(secret, 1_773_480_031, Some(kind), &body);
        assert!(signed.is_some(), "{name}");
    }
}
