//! The proof that a body is what a provider sent, as a type.

use std::ops::Deref;

use bytes::Bytes;
use http::HeaderMap;

use crate::ids::AppId;
use crate::provider::signature::google::{Keys, Proof, Pusher, proof};
use crate::provider::signature::{
    basic, gateway, header, mailgun, meta, sendgrid, sns, twilio, zendesk,
};
use crate::tenant::{App, Provider};

/// Bytes that an app of ours has signed. Only this file can make one, and only of such bytes.
#[derive(Debug, Clone)]
pub struct Verified<T> {
    content: T,
    app: AppId,
}

impl<T> Verified<T> {
    /// The app that signed.
    pub fn app(&self) -> AppId {
        self.app
    }
}

impl<T> Deref for Verified<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.content
    }
}

/// What somebody sent who may be anybody.
pub struct Unverified<'a> {
    /// The addresses at which it may have been sent, as the provider knows them.
    pub urls: &'a [String],
    /// Its headers.
    pub headers: &'a HeaderMap,
    /// Its body.
    pub body: Bytes,
    /// The query of its address, where it has that instead of a body.
    pub query: Option<Bytes>,
    /// The time, in seconds since 1970.
    pub now: i64,
    /// The certificate that it names, where it names one that may sign.
    pub certificate: Option<&'a [u8]>,
    /// Google's keys, where one of them may sign.
    pub keys: Option<&'a Keys>,
}

/// Tells whether what has such headers can be signed by an app: a stranger's body is not even read.
pub fn may_be_signed(app: &App, headers: &HeaderMap) -> bool {
    match app.provider {
        Provider::Meta => meta::signature(headers).is_some(),
        Provider::Twilio => twilio::signature(headers).is_some(),
        Provider::Postmark => has_credentials(app, headers),
        Provider::Sendgrid => sendgrid::signature(headers).is_some(),
        Provider::Zendesk => zendesk::signature(headers).is_some(),
        Provider::Sunshine => {
            let mut secrets = app.signing_secrets();
            secrets.any(|secret| zendesk::has_api_key(secret, headers))
        }
        Provider::Waha => gateway::signature(headers).is_some(),
        Provider::Evolution | Provider::Google => header::credentials(headers, "Bearer").is_some(),
        // They sign in their bodies.
        Provider::Mailgun | Provider::Ses => true,
        // There are no webhooks of it.
        Provider::Widget => false,
    }
}

/// What an app sent, as its secret proves.
pub struct Proved<'a> {
    /// The app.
    pub app: &'a App,
    /// The body.
    pub body: Verified<Bytes>,
    /// What may be used for one body alone, where the signature is not of the body.
    pub token: Option<String>,
    /// Whether it only tries out an address, by a secret that the whole world knows.
    pub is_test: bool,
}

/// Finds the app whose secret signed the body, over its raw bytes.
pub fn verify<'a>(apps: &'a [App], sent: Unverified<'_>) -> Option<Proved<'a>> {
    let mut token = None;
    let app = apps
        .iter()
        .find(|app| is_signed_by(app, &sent, &mut token))?;
    let is_test = app.provider == Provider::Zendesk && !is_zendesks(app, false, &sent);
    let content = match app.provider {
        Provider::Evolution => without_key(sent.body),
        // The address is what Twilio signs.
        Provider::Twilio => sent.query.unwrap_or(sent.body),
        _ => sent.body,
    };
    let body = Verified {
        content,
        app: app.id,
    };
    Some(Proved {
        app,
        body,
        token,
        is_test,
    })
}

fn is_signed_by(app: &App, sent: &Unverified<'_>, token: &mut Option<String>) -> bool {
    let (headers, body, now) = (sent.headers, &sent.body, sent.now);
    let content_type = header::text(headers, "content-type");
    // Amazon has no secret with us: its certificate signs, for a topic that is known.
    if app.provider == Provider::Ses {
        let is_of_topic = sns::topic(body).is_some_and(|topic| topic == app.external_id);
        let certificate = sent.certificate.filter(|_| is_of_topic);
        return certificate.is_some_and(|certificate| sns::is_signed_by(certificate, body));
    }
    // Neither has Google, whose keys sign for a service account.
    if app.provider == Provider::Google {
        let pusher = Pusher {
            audiences: sent.urls,
            service_account: &app.external_id,
        };
        let proved = sent.keys.map(|keys| proof(keys, &pusher, now, headers));
        return proved == Some(Proof::Given);
    }
    if app.provider == Provider::Zendesk {
        return is_zendesks(app, app.in_setup, sent);
    }
    app.signing_secrets().any(|secret| match app.provider {
        Provider::Meta => meta::signature(headers)
            .is_some_and(|signature| meta::is_signed_by(secret, body, &signature)),
        // What has both was sent by another method than the one it was signed for.
        Provider::Twilio => {
            (sent.query.is_none() || body.is_empty())
                && twilio::is_signed_by(secret, sent.urls, content_type, body, headers)
        }
        Provider::Postmark => has_credentials(app, headers),
        Provider::Mailgun => {
            let signed = mailgun::signed(secret, now, content_type, body);
            signed.is_some_and(|signed| token.replace(signed.token).is_none())
        }
        Provider::Sendgrid => sendgrid::is_signed_by(secret, sendgrid::WINDOW, now, headers, body),
        Provider::Sunshine => zendesk::has_api_key(secret, headers),
        Provider::Waha => gateway::is_signed_by(secret, headers, body),
        Provider::Evolution => gateway::is_sent_by(secret, now, headers),
        Provider::Ses | Provider::Google | Provider::Zendesk | Provider::Widget => false,
    })
}

/// Tells whether Zendesk signed, also with the secret of its tests while an app is set up.
fn is_zendesks(app: &App, in_setup: bool, sent: &Unverified<'_>) -> bool {
    // The header is not signed, but one that says something else is not of this account.
    let account = zendesk::account(sent.headers);
    account.is_none_or(|account| account.to_string() == app.external_id)
        && app.signing_secrets().any(|secret| {
            zendesk::is_signed_by(secret, in_setup, sent.now, sent.headers, &sent.body)
        })
}

/// Blanks out the key of its own that Evolution puts into every body: whoever has that can send in
/// the customer's name, and nobody needs it here.
fn without_key(body: Bytes) -> Bytes {
    const KEY: &[u8] = b"\"apikey\"";
    let mut blanked = body.to_vec();
    let mut from = 0;
    while let Some(found) = blanked.get(from..).and_then(|rest| {
        let mut windows = rest.windows(KEY.len());
        windows.position(|window| window == KEY)
    }) {
        from += found + KEY.len();
        let mut in_text = false;
        for byte in blanked.iter_mut().skip(from) {
            match (*byte, in_text) {
                (b'"', false) => in_text = true,
                (b':' | b' ' | b'\t' | b'\n' | b'\r', false) => {}
                // Its end, or no text at all.
                (b'"', true) | (_, false) => break,
                (_, true) => *byte = b'*',
            }
        }
    }
    blanked.into()
}

fn has_credentials(app: &App, headers: &HeaderMap) -> bool {
    let mut secrets = app.signing_secrets();
    secrets.any(|password| basic::has_credentials(&app.external_id, password, headers))
}

/// Takes what a provider answered when it was asked for an app.
pub fn asked_for(app: AppId, body: Bytes) -> Verified<Bytes> {
    Verified { content: body, app }
}

/// Takes a body out of our own keeping, where only verified ones are put.
pub fn kept(app: AppId, body: Bytes) -> Verified<Bytes> {
    Verified { content: body, app }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evolutions_key_is_blanked_out_and_nothing_else() {
        let blanked = |body: &'static str| without_key(Bytes::from_static(body.as_bytes()));
        assert_eq!(
            blanked(r#"{"a":"apikey","apikey" : "secret","b":1}"#),
            r#"{"a":"apikey","apikey" : "******","b":1}"#
        );
        assert_eq!(
            blanked(r#"{"apikey":null,"b":"x"}"#),
            r#"{"apikey":null,"b":"x"}"#
        );
        assert_eq!(blanked(r#"{"apikey":"#), r#"{"apikey":"#);
        assert_eq!(blanked("{}"), "{}");
    }
}
