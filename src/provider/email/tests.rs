//! What comes of the bodies that providers send, and of bodies that nobody should.

mod hostile;

use super::*;

const SAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/samples");
const MAILGUN: &str = "multipart/form-data; boundary=----mgBoundary7MA4YWxk";
const SENDGRID: &str = "multipart/form-data; boundary=xYzZY";
const FORM: &str = "application/x-www-form-urlencoded";

/// Reads a recorded body.
fn sample(name: &str) -> Vec<u8> {
    std::fs::read(format!("{SAMPLES}/{name}")).unwrap()
}

fn mail(arrival: Arrival) -> Mail {
    match arrival {
        Arrival::Mail(mail) => *mail,
        other => panic!("no mail: {other:?}"),
    }
}

fn report(arrival: Arrival) -> Report {
    match arrival {
        Arrival::Report(report) => report,
        other => panic!("no report: {other:?}"),
    }
}

fn one(arrivals: Result<Vec<Arrival>, String>) -> Arrival {
    let mut arrivals = arrivals.unwrap();
    assert_eq!(arrivals.len(), 1);
    arrivals.pop().unwrap()
}

fn raw(raw: impl AsRef<[u8]>) -> Arrival {
    mime::arrival(raw.as_ref(), Envelope::default())
}

fn eml(name: &str) -> Mail {
    mail(raw(sample(&format!("email/{name}"))))
}

const PLAIN: &str = "Hi,\n\nis the café table still available? I can pick it up on Saturday, even if it rains.\n\nDana";

#[track_caller]
fn is_sample_01(mail: &Mail) {
    assert_eq!(mail.subject, "Café table: still available?");
    assert_eq!(mail.text, PLAIN);
    assert_eq!(mail.visible, PLAIN);
    assert_eq!(mail.message_id, "CAK1-0001@mail.customer.example");
    assert_eq!(mail.from.address, "dana@customer.example");
    assert_eq!(mail.from.name, "Dana Whitfield");
    assert_eq!(mail.recipients, ["support@in.inbox.example"]);
    assert_eq!(mail.envelope_from.as_deref(), Some("dana@customer.example"));
    assert_eq!(mail.date.unwrap().to_rfc3339(), "2026-03-14T09:20:00+00:00");
    assert_eq!(mail.automatic, None);
    assert!(mail.parts.is_empty());
    assert_eq!(mail.html, None);
}

#[test]
fn a_plain_mail_is_the_same_on_every_road() {
    is_sample_01(&eml("01_plain.eml"));
    let mailgun = mail(one(mailgun::arrivals(
        FORM,
        &sample("email/22_mailgun_raw_mime.form"),
    )));
    assert_eq!(mailgun.plus_keys, ["cv_8Zk2mQ"]);
    is_sample_01(&mailgun);
    is_sample_01(&mail(one(sendgrid::arrivals(
        SENDGRID,
        &sample("email/31_sendgrid_raw.multipart"),
    ))));
    let ses = mail(one(ses::arrivals(&sample(
        "email/41_sns_ses_received.json",
    ))));
    assert_eq!(ses.verdicts.dmarc, Verdict::Pass);
    is_sample_01(&ses);
    let gmail: serde_json::Value =
        serde_json::from_slice(&sample("gmail/06_message_raw.json")).unwrap();
    is_sample_01(&mail(raw(transfer::base64(
        gmail["raw"].as_str().unwrap().as_bytes(),
    ))));
}

#[test]
fn a_reply_tells_what_it_answers() {
    let mail = eml("02_reply_threaded.eml");
    assert_eq!(mail.visible, "Saturday 10:00 works.");
    assert!(
        mail.text
            .contains("> Yes, it is. When would you like to come?")
    );
    assert_eq!(
        mail.recipients,
        ["support@in.inbox.example", "partner@customer.example"]
    );
    assert_eq!(mail.plus_keys, ["cv_8Zk2mQ"]);
    assert_eq!(mail.in_reply_to, ["msg.2001.cv_8Zk2mQ@in.inbox.example"]);
    assert_eq!(
        mail.references,
        [
            "CAK1-0001@mail.customer.example",
            "msg.2001.cv_8Zk2mQ@in.inbox.example"
        ]
    );
    assert_eq!(mail.cc.len(), 1);
    assert_eq!(mail.cc[0].address, "partner@customer.example");
    assert_eq!(mail.date.unwrap().to_rfc3339(), "2026-03-14T10:02:10+00:00");
    assert_eq!(mail.automatic, None);
}

#[test]
fn html_alone_becomes_text_and_files() {
    let mail = eml("03_html_attachments_inline.eml");
    assert_eq!(mail.text, "See attached.");
    assert_eq!(
        mail.html.unwrap(),
        "<p>See <b>attached</b>. <img src=\"cid:logo@1\"></p>"
    );
    assert_eq!(mail.parts.len(), 2);
    assert_eq!(mail.parts[0].content_id.as_deref(), Some("logo@1"));
    assert!(mail.parts[0].inline);
    assert!(mail.parts[0].content.starts_with(b"\x89PNG"));
    assert_eq!(mail.parts[1].file_name, "Rechnung März.pdf");
    assert_eq!(mail.parts[1].content_type, "application/pdf");
    assert!(!mail.parts[1].inline);
    assert!(mail.parts[1].content.ends_with(b"%%EOF\n"));
}

#[test]
fn a_vacation_responder_is_a_machine() {
    let mail = eml("04_autoreply.eml");
    assert_eq!(mail.automatic, Some("auto_submitted"));
    assert_eq!(mail.in_reply_to, ["msg.2001.cv_8Zk2mQ@in.inbox.example"]);
}

#[test]
fn a_bounce_is_a_report_of_our_mail() {
    let bounce = sample("email/05_bounce_dsn.eml");
    let expected = Report {
        message_id: "msg.2001.cv_8Zk2mQ@in.inbox.example".to_owned(),
        other_id: None,
        outcome: Outcome::Failed {
            permanent: true,
            code: "5.1.1".to_owned(),
            words: "550 5.1.1 user unknown".to_owned(),
        },
        recipient: "nobody@customer.example".to_owned(),
        accounts: vec!["support@in.inbox.example".to_owned()],
    };
    assert_eq!(report(raw(&bounce)), expected);
    // By what it quotes, where it did not come to the address for it.
    let text = String::from_utf8(bounce).unwrap();
    let other = text.replace("bounce+2001.cv_8Zk2mQ@", "support@");
    assert_eq!(report(raw(&other)), expected);
    let soft = other.replace("Status: 5.1.1", "Status: 4.2.2");
    // Whoever reports it has given up, whatever kept it from arriving.
    let outcome = report(raw(&soft)).outcome;
    assert!(
        matches!(&outcome, Outcome::Failed { permanent: true, code, .. } if code == "4.2.2"),
        "{outcome:?}"
    );
    let delayed = other.replace("Action: failed", "Action: delayed");
    assert_eq!(raw(&delayed), Arrival::Ignored("delivery_goes_on"));
    let foreign = other.replace("Message-ID: <msg", "X: <msg");
    assert_eq!(raw(&foreign), Arrival::Ignored("report_of_other_mail"));
    let receipt = other
        .replace(
            "report-type=delivery-status",
            "report-type=disposition-notification",
        )
        .replace(
            "message/delivery-status",
            "message/disposition-notification",
        );
    assert_eq!(raw(&receipt), Arrival::Ignored("read_receipt"));
}

#[test]
fn other_reports_are_read() {
    let complaint = "From: a@isp\nContent-Type: multipart/report; report-type=feedback-report; boundary=b\n\n--b\n\nx\n--b\nContent-Type: message/feedback-report\n\nFeedback-Type: abuse\nOriginal-Rcpt-To: <Dana@X>\n--b\nContent-Type: message/rfc822\n\nMessage-ID: <msg.1.k@x>\nSubject: s\n\nbody\n--b--\n";
    let report_ = report(raw(complaint));
    assert_eq!(report_.outcome, Outcome::Complained);
    assert_eq!(
        (report_.message_id.as_str(), report_.recipient.as_str()),
        ("msg.1.k@x", "dana@x")
    );
    let gmail = "From: <mailer-daemon@googlemail.com>\nX-Failed-Recipients: nobody@x\nIn-Reply-To: <msg.2001.k@x>\n\n550 5.1.1 unknown";
    let report_ = report(raw(gmail));
    assert_eq!(report_.message_id, "msg.2001.k@x");
    assert!(matches!(
        report_.outcome,
        Outcome::Failed {
            permanent: true,
            ..
        }
    ));
    let plain = mail(raw(
        "Return-Path: <>\nFrom: postmaster@x\nTo: bounce+1.k@y\n\nCould not be delivered.",
    ));
    assert_eq!(plain.automatic, Some("null_sender"));
}

#[test]
fn bytes_of_latin_1_are_read() {
    let mail = eml("06_latin1_8bit.eml");
    assert_eq!(mail.text, "¿Dónde está mi señal? Costó 30 -ish, sí.");
    assert_eq!(mail.subject, "Señal perdida");
    assert_eq!(mail.from.name, "Jose");
}

#[test]
fn postmark_is_read() {
    let first = mail(one(postmark::arrivals(&sample(
        "email/10_postmark_text.json",
    ))));
    assert_eq!(first.text, "is the café table still available?");
    assert_eq!(
        first.html.as_deref(),
        Some("<p>is the café table still available?</p>")
    );
    assert_eq!(first.message_id, "CAK1-0001@mail.customer.example");
    assert_eq!(first.recipients, ["support@in.inbox.example"]);
    assert_eq!(first.from.name, "Dana Whitfield");
    assert_eq!(
        (first.verdicts.spf, first.verdicts.spam),
        (Verdict::Pass, Verdict::Pass)
    );
    assert_eq!(
        first.date.unwrap().to_rfc3339(),
        "2026-03-14T09:20:00+00:00"
    );
    let reply = mail(one(postmark::arrivals(&sample(
        "email/11_postmark_reply_attachment.json",
    ))));
    assert_eq!(reply.visible, "Saturday 10:00 works.");
    assert_eq!(reply.plus_keys, ["cv_8Zk2mQ"]);
    assert_eq!(reply.in_reply_to, ["msg.2001.cv_8Zk2mQ@in.inbox.example"]);
    assert_eq!(reply.references.len(), 2);
    assert_eq!(reply.parts.len(), 1);
    assert_eq!(reply.parts[0].file_name, "Rechnung März.pdf");
    assert!(reply.parts[0].content.starts_with(b"%PDF-1.4"));
    assert!(!reply.parts[0].inline);
    let bounce = report(one(postmark::arrivals(&sample(
        "email/12_postmark_bounce.json",
    ))));
    assert_eq!(bounce.message_id, "msg-2001");
    assert!(
        matches!(&bounce.outcome, Outcome::Failed { permanent: true, code, .. } if code == "5.1.1")
    );
    assert_eq!(bounce.recipient, "nobody@customer.example");
    let delivery = report(one(postmark::arrivals(&sample(
        "email/13_postmark_delivery.json",
    ))));
    assert_eq!(
        (delivery.message_id.as_str(), delivery.outcome),
        ("msg-2002", Outcome::Delivered)
    );
}

#[test]
fn mailgun_is_read() {
    let parsed = mail(one(mailgun::arrivals(
        FORM,
        &sample("email/20_mailgun_parsed.form"),
    )));
    assert_eq!(parsed.visible, "is the café table still available?");
    assert_eq!(parsed.text, "is the café table still available?\n\n> older");
    assert_eq!(parsed.message_id, "CAK1-0001@mail.customer.example");
    assert_eq!(parsed.to[0].address, "support@in.inbox.example");
    let files = mail(one(mailgun::arrivals(
        MAILGUN,
        &sample("email/21_mailgun_attachments.multipart"),
    )));
    assert_eq!(files.text, "see both files");
    assert_eq!(files.parts.len(), 2);
    assert!(files.parts[0].inline);
    assert_eq!(files.parts[0].content_id.as_deref(), Some("logo@1"));
    assert!(files.parts[0].content.starts_with(b"\x89PNG\r\n"));
    assert!(!files.parts[1].inline);
    assert_eq!(files.parts[1].file_name, "Rechnung März.pdf");
    let event = sample("email/23_mailgun_event_failed.json");
    let failed = report(one(mailgun::arrivals("application/json", &event)));
    assert_eq!(failed.message_id, "msg.2001.cv_8Zk2mQ@in.inbox.example");
    assert_eq!(failed.other_id.as_deref(), Some("msg-2001"));
    assert!(
        matches!(&failed.outcome, Outcome::Failed { permanent: true, code, .. } if code == "5.1.1")
    );
    let soft = String::from_utf8(event)
        .unwrap()
        .replace("\"permanent\"", "\"temporary\"");
    let soft = report(one(mailgun::arrivals("application/json", soft.as_bytes())));
    assert!(matches!(
        soft.outcome,
        Outcome::Failed {
            permanent: false,
            ..
        }
    ));
}

#[test]
fn sendgrid_is_read() {
    let parsed = mail(one(sendgrid::arrivals(
        SENDGRID,
        &sample("email/30_sendgrid_parsed.multipart"),
    )));
    assert_eq!(parsed.text, "is the café table still available?");
    assert_eq!(parsed.subject, "Café table");
    assert_eq!(parsed.parts.len(), 1);
    assert_eq!(parsed.parts[0].file_name, "r.pdf");
    assert_eq!(
        parsed.envelope_from.as_deref(),
        Some("dana@customer.example")
    );
    assert_eq!(
        (parsed.verdicts.spf, parsed.verdicts.dkim),
        (Verdict::Pass, Verdict::Pass)
    );
    let events =
        sendgrid::arrivals("application/json", &sample("email/32_sendgrid_events.json")).unwrap();
    let events: Vec<_> = events.into_iter().map(report).collect();
    assert_eq!(events.len(), 2);
    assert_eq!(events[0].other_id.as_deref(), Some("msg-2001"));
    assert_eq!(events[0].message_id, "msg.2001.cv_8Zk2mQ@in.inbox.example");
    assert!(
        matches!(&events[0].outcome, Outcome::Failed { permanent: true, code, .. } if code == "5.1.1")
    );
    assert_eq!(events[1].other_id.as_deref(), Some("msg-2002"));
    assert_eq!(events[1].outcome, Outcome::Delivered);
}

#[test]
fn ses_is_read() {
    let subscription = one(ses::arrivals(&sample("email/40_sns_subscription.json")));
    let Arrival::Subscription { topic, url } = subscription else {
        panic!()
    };
    assert_eq!(topic, "arn:aws:sns:eu-west-1:111111111111:inbox-inbound");
    assert!(url.starts_with("https://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription"));
    let bounce = r#"{"notificationType":"Bounce","mail":{"messageId":"ses1","headers":[{"name":"Message-ID","value":"<msg.1.k@x>"}]},"bounce":{"bounceType":"Permanent","bouncedRecipients":[{"emailAddress":"A@x","status":"5.1.1","diagnosticCode":"smtp; 550"},{"emailAddress":"b@x"}]}}"#;
    let envelope = serde_json::json!({"Type": "Notification", "Message": bounce}).to_string();
    let reports: Vec<_> = ses::arrivals(envelope.as_bytes())
        .unwrap()
        .into_iter()
        .map(report)
        .collect();
    assert_eq!(reports.len(), 2);
    assert_eq!(reports[0].message_id, "msg.1.k@x");
    assert_eq!(reports[0].other_id.as_deref(), Some("ses1"));
    assert_eq!(reports[0].recipient, "a@x");
    let test = serde_json::json!({"Type": "Notification", "Message": "Successfully validated"})
        .to_string();
    assert_eq!(
        one(ses::arrivals(test.as_bytes())),
        Arrival::Ignored("other_message")
    );
    assert!(ses::arrivals(b"{}").is_err());
}

#[test]
fn what_we_sent_is_recognised_when_it_comes_back() {
    let sent = String::from_utf8(sample("email/out_01_smtp.eml")).unwrap();
    let envelope = Envelope {
        recipients: vec!["support@in.inbox.example".to_owned()],
        ..Envelope::default()
    };
    assert_eq!(
        mail(mime::arrival(sent.as_bytes(), envelope)).automatic,
        Some("loop")
    );
}

#[test]
fn parts_of_all_kinds_find_their_place() {
    let text = "From: a@b\r\nTo: c@d\r\nContent-Type: multipart/mixed; boundary=m\r\n\r\n--m\r\nContent-Type: multipart/alternative; boundary=\"a b\"\r\n\r\n--a b\r\n\r\nwords\r\n--a b\r\nContent-Type: text/html; charset=utf-7\r\n\r\n<p>w+APY-rds</p>\r\n--a b\r\nContent-Type: text/calendar; method=REQUEST\r\n\r\nBEGIN:VCALENDAR\r\n--a b--\r\n--m\r\nContent-Type: message/rfc822\r\n\r\nFrom: x@y\r\nContent-Type: multipart/mixed; boundary=i\r\n\r\n--i\r\n\r\ninner\r\n--i--\r\n--m\r\nContent-Type: application/ms-tnef; name=winmail.dat\r\nContent-Transfer-Encoding: base64\r\n\r\neJ8+\r\n--m\r\nContent-Type: text/plain; charset=ks_c_5601-1987\r\n\r\n\u{be}\u{c8}\r\n--m\r\nContent-Type: text/plain\r\nContent-Disposition: attachment; filename*0*=iso-8859-1''%e9; filename*1=.txt\r\n\r\nfile\0\r\n--m--\r\nepilogue";
    let bytes: Vec<u8> = text
        .chars()
        .map(|letter| u8::try_from(u32::from(letter)).unwrap())
        .collect();
    let mail = mail(raw(bytes));
    assert_eq!(mail.text, "words\n안");
    assert_eq!(mail.html.unwrap(), "<p>wörds</p><pre>안</pre>");
    let files: Vec<_> = mail
        .parts
        .iter()
        .map(|part| (part.file_name.as_str(), part.content_type.as_str()))
        .collect();
    assert_eq!(
        files,
        [
            ("invite.ics", "text/calendar"),
            ("message.eml", "message/rfc822"),
            ("winmail.dat", "application/ms-tnef"),
            ("é.txt", "text/plain")
        ]
    );
    assert!(mail.parts[1].content.ends_with(b"--i--"));
    assert_eq!(mail.parts[3].content[..], *b"file\0");
    assert!(mail.message_id.starts_with("sha256:") && mail.message_id.ends_with("@derived"));
    assert_eq!(mail.message_id.len(), 7 + 64 + 8);
}

#[test]
fn quotes_in_html_are_trimmed() {
    let of = |html: &str| mail(raw(format!("From: a@b\nContent-Type: text/html\n\n{html}")));
    let yahoo = of(
        "<p>Works.</p><div class=\"x yahoo_quoted\"><div>On Sat, Mia wrote:</div><div>Yes, it is.</div></div>",
    );
    assert_eq!(yahoo.visible, "Works.");
    assert_eq!(yahoo.text, "Works.\n\nOn Sat, Mia wrote:\nYes, it is.");
    let outlook = of(
        "<p>Works.</p><div id=appendonsend></div><hr><div id=\"divRplyFwdMsg\"><b>From:</b> Mia<br></div><p>Yes</p>",
    );
    assert_eq!(outlook.visible, "Works.");
    let gmail = of(
        "<div>Works.</div><div class=gmail_quote><div>On Sat, Mia wrote:<br></div><blockquote>Yes</blockquote></div>",
    );
    assert_eq!(gmail.visible, "Works.");
    let between = of(
        "<div class=gmail_quote>On Sat, Mia wrote:<blockquote>Yes</blockquote>Fine.<blockquote>No</blockquote></div>",
    );
    assert_eq!(between.visible, "On Sat, Mia wrote:\n> Yes\nFine.\n> No");
}

#[test]
fn limits_are_kept() {
    let many = format!(
        "A: b\nContent-Type: multipart/mixed; boundary=b\n\n{}",
        "--b\n\nx\n".repeat(501)
    );
    assert!(matches!(raw(many), Arrival::Unreadable(_)));
    let mut deep = String::new();
    for level in 0..60 {
        deep.push_str(&format!(
            "Content-Type: multipart/mixed; boundary=b{level}\n\n--b{level}\n"
        ));
    }
    assert!(matches!(raw(deep), Arrival::Unreadable(_)));
    assert!(matches!(raw(""), Arrival::Unreadable(_)));
    assert!(matches!(
        raw(vec![b'a'; 41 * 1024 * 1024]),
        Arrival::Unreadable(_)
    ));
    let long = mail(raw(format!("From: a@b\n\n{}", "word ".repeat(400_000))));
    assert!(long.text.len() <= 1024 * 1024);
    let nul = mail(raw("From: a@b\nSubject: a\0b\n\na\0b"));
    assert_eq!(
        (nul.subject.as_str(), nul.text.as_str()),
        ("a\u{fffd}b", "a\u{fffd}b")
    );
    let unsplit = mail(raw(
        "From: a@b\nContent-Type: multipart/mixed; boundary=b\n\nwords",
    ));
    assert_eq!(unsplit.text, "words");
}
