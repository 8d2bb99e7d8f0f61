//! What nobody's secret proves is refused, and leaves nothing.

use communication_service::pb::{EmailProvider, Gateway, TwilioCallSettings};
use uuid::Uuid;

use crate::harness::{Provider, SECRET, Signed, Tables, TestServer, now};

/// What somebody could make of a proof; no word where they leave it out.
fn altered(proof: &str) -> Vec<Option<String>> {
    let letters: Vec<char> = proof.chars().collect();
    let changed = |at: usize| {
        let mut letters = letters.clone();
        letters[at] = if letters[at] == '4' { '7' } else { '4' };
        letters.iter().collect::<String>()
    };
    let swapped = |letter: char| match letter.is_uppercase() {
        true => letter.to_ascii_lowercase(),
        false => letter.to_ascii_uppercase(),
    };
    let last = letters.len() - 1;
    let mut all = vec![None, Some(String::new())];
    all.extend((1..8).map(|eighths| Some(proof[..proof.len() * eighths / 8].to_owned())));
    all.extend(
        [
            proof[..last].to_owned(),
            proof[1..].to_owned(),
            format!("{proof}4"),
            format!("{proof}="),
            format!("{proof} x"),
            format!("x {proof}"),
            format!("4{proof}"),
            format!("\"{proof}\""),
            format!("{proof},{proof}"),
            format!("sha1={proof}"),
            format!("Bearer {proof}"),
            changed(0),
            changed(last / 2),
            changed(last),
            letters.iter().rev().collect(),
            proof.replace(char::is_alphanumeric, "0"),
            "0".repeat(proof.len()),
            "null".to_owned(),
            "=".to_owned(),
        ]
        .map(Some),
    );
    // Digits have no case.
    let other_case: String = letters.iter().copied().map(swapped).collect();
    all.extend((other_case != proof && !is_hex(proof)).then_some(Some(other_case)));
    // What comes before a signature, such as its algorithm.
    let behind = proof.split_once(['=', ' ']).map(|(_, behind)| behind);
    let behind = behind.filter(|behind| !behind.is_empty() && *behind != "=");
    all.extend(behind.map(|behind| Some(behind.to_owned())));
    all
}

fn is_hex(proof: &str) -> bool {
    let digits = proof.rsplit('=').next().unwrap();
    !digits.is_empty() && digits.chars().all(|digit| digit.is_ascii_hexdigit())
}

/// A webhook with another header for one of those that prove it.
fn with_header(sent: &Signed, at: usize, proof: Option<String>) -> Signed {
    let mut sent = sent.clone();
    match proof {
        Some(proof) => sent.headers[at].1 = proof,
        None => drop(sent.headers.remove(at)),
    }
    sent
}

/// Webhooks whose headers prove nothing.
fn of_headers(sent: &Signed) -> Vec<Signed> {
    let mut all = Vec::new();
    for at in 2..sent.headers.len() {
        let (name, proof) = &sent.headers[at];
        all.extend(
            altered(proof)
                .into_iter()
                .map(|proof| with_header(sent, at, proof)),
        );
        for also in [proof.as_str(), "0"] {
            for place in [at, at + 1] {
                let mut doubled = sent.clone();
                doubled.headers.insert(place, (*name, also.to_owned()));
                all.push(doubled);
            }
        }
        let mut elsewhere = sent.clone();
        elsewhere.headers[at].0 = "x-signature";
        all.push(elsewhere);
        let mut in_the_address = with_header(sent, at, None);
        let proof: String = form_urlencoded::byte_serialize(proof.as_bytes()).collect();
        in_the_address.path.push_str(&format!("?{name}={proof}"));
        all.push(in_the_address);
    }
    all
}

/// A form with another value for one of its fields.
fn with_field(sent: &Signed, name: &str, value: Option<&str>) -> Signed {
    let mut form = form_urlencoded::Serializer::new(String::new());
    for (field, said) in form_urlencoded::parse(&sent.body) {
        match value {
            _ if field != name => drop(form.append_pair(&field, &said)),
            Some(value) => drop(form.append_pair(&field, value)),
            None => {}
        }
    }
    Signed {
        body: form.finish().into_bytes(),
        ..sent.clone()
    }
}

/// Webhooks whose fields prove nothing.
fn of_fields(sent: &Signed) -> Vec<Signed> {
    let mut all = Vec::new();
    for (name, proof) in form_urlencoded::parse(&sent.body) {
        if matches!(&*name, "timestamp" | "token" | "signature") {
            let altered = altered(&proof);
            all.extend(
                altered
                    .iter()
                    .map(|proof| with_field(sent, &name, proof.as_deref())),
            );
            let mut doubled = sent.clone();
            doubled.body.extend(format!("&{name}=0").into_bytes());
            all.push(doubled);
        }
    }
    all
}

/// Webhooks with another body than was signed.
fn of_bodies(sent: &Signed) -> Vec<Signed> {
    let body = &sent.body;
    let changed = |at: usize| {
        let mut body = body.clone();
        body[at] = if body[at] == b'4' { b'7' } else { b'4' };
        body
    };
    let spaced = body.iter().flat_map(|byte| match byte {
        b'{' => vec![b'{', b' '],
        b'=' => vec![b'=', b'+'],
        other => vec![*other],
    });
    let last = body.len() - 1;
    let bodies = [
        Vec::new(),
        changed(0),
        changed(last / 2),
        changed(last),
        body[..last / 2].to_vec(),
        body[1..].to_vec(),
        [body, b"\n".as_slice()].concat(),
        [b"\xef\xbb\xbf", body.as_slice()].concat(),
        body.repeat(2),
        spaced.collect(),
    ];
    let bodies = bodies.into_iter();
    let of = |body| Signed {
        body,
        ..sent.clone()
    };
    bodies.map(of).collect()
}

/// Webhooks at addresses and by methods for which they were not signed.
fn of_addresses(sent: &Signed) -> Vec<Signed> {
    let key = sent.path.split('/').nth(3).unwrap();
    let stranger = Uuid::now_v7().to_string();
    let (channel, other) = match sent.path.split('/').nth(2).unwrap() {
        "zendesk" => ("zendesk", "messenger"),
        channel => (channel, "zendesk"),
    };
    let paths = [
        sent.path.replace(key, &stranger),
        sent.path.replace(key, "nobody"),
        sent.path.replace(key, &key[..key.len() - 1]),
        sent.path.replacen(channel, other, 1),
    ];
    let at = |path| Signed {
        path,
        ..sent.clone()
    };
    let by = |method| Signed {
        method,
        ..sent.clone()
    };
    let methods = ["GET", "PUT", "PATCH", "DELETE"].map(by);
    paths.map(at).into_iter().chain(methods).collect()
}

/// Sends all forgeries of a recorded webhook, none of which leaves anything, and the webhook.
async fn is_refused_unless_proved(server: &TestServer, account: &Provider, file: &str) {
    let body = account.sample(file);
    let (sent, old) = (account.signed("", &body), now() - 5 * 86_400);
    let mut forgeries = of_addresses(&sent);
    forgeries.extend(of_headers(&sent));
    forgeries.extend(of_fields(&sent));
    forgeries.push(account.signed_by("another-secret", now(), "", &body));
    forgeries.push(account.signed_by("", now(), "", &body));
    if account.signs_time() {
        // Mailgun and SendGrid try again for up to three days with the same signature.
        forgeries.push(account.signed_by(SECRET, old, "", &body));
        forgeries.push(account.signed_by(SECRET, now() + 3600, "", &body));
    }
    if account.signs_body() {
        forgeries.extend(of_bodies(&sent));
        let of_another = account.signed("", &[body.as_slice(), b" "].concat());
        forgeries.push(Signed { body, ..of_another });
    }
    assert!(forgeries.len() >= 40, "{file}: {}", forgeries.len());
    let tables = Tables::of(&account.tenant).await;
    let kept = format!(
        "SELECT count(*) FROM directory.deliveries WHERE correlation_id = '{}'",
        account.account.id
    );
    let (count, mut taken) = (forgeries.len(), Vec::new());
    for forgery in forgeries {
        let (status, words) = forgery.post(server).await;
        let is_refused = match forgery.method {
            "POST" => status == 403 && words.is_empty(),
            _ => matches!(status, 403 | 405),
        };
        if !is_refused {
            taken.push((status, forgery));
        }
    }
    assert!(taken.is_empty(), "{file}, {count} tried: {taken:#?}");
    assert_eq!(tables.count(&kept).await, 0, "{file}");
    assert_eq!(sent.post(server).await.0, 200, "{file}");
    assert_eq!(tables.count(&kept).await, 1, "{file}");
    println!("{file}: {count} refused");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_meta_or_twilio_did_not_sign_is_refused() {
    let server = TestServer::start().await;
    let page = Provider::messenger(&server).await;
    is_refused_unless_proved(&server, &page, "01_text.json").await;
    let business = Provider::instagram(&server).await;
    is_refused_unless_proved(&server, &business, "01_text.json").await;
    let sender = Provider::twilio_whatsapp(&server).await;
    is_refused_unless_proved(&server, &sender, "01_text.form").await;
    let number = Provider::twilio_call(&server, TwilioCallSettings::default()).await;
    is_refused_unless_proved(&server, &number, "01_incoming.form").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_gateway_or_zendesk_sent_is_refused() {
    let server = TestServer::start().await;
    let waha = Provider::personal_whatsapp(&server, Gateway::Waha).await;
    is_refused_unless_proved(&server, &waha, "01_waha_text.json").await;
    let evolution = Provider::personal_whatsapp(&server, Gateway::Evolution).await;
    let file = evolution.samples().remove(0);
    is_refused_unless_proved(&server, &evolution, &file).await;
    let tickets = Provider::tickets(&server).await;
    is_refused_unless_proved(&server, &tickets, "02_event_comment_public.json").await;
    let conversations = Provider::zendesk_conversations(&server).await;
    let file = conversations.samples().remove(0);
    is_refused_unless_proved(&server, &conversations, &file).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_mail_provider_sent_is_refused() {
    let server = TestServer::start().await;
    let postmark = Provider::email(&server, EmailProvider::Postmark).await;
    let file = postmark.samples().remove(0);
    is_refused_unless_proved(&server, &postmark, &file).await;
    let mailgun = Provider::email(&server, EmailProvider::Mailgun).await;
    is_refused_unless_proved(&server, &mailgun, "20_mailgun_parsed.form").await;
    let sendgrid = Provider::email(&server, EmailProvider::Sendgrid).await;
    is_refused_unless_proved(&server, &sendgrid, "32_sendgrid_events.json").await;
}
