//! Every reader of webhooks, fed with damaged ones: none panics, none takes long.

use std::time::Duration;

use bytes::Bytes;
use uuid::Uuid;

use super::delivery::Delivery;
use super::item::read;
use super::verified::kept;
use crate::channel::Channel;
use crate::ids::{AppId, DeliveryId};
use crate::provider::gmail::MAIL;
use crate::tenant::Provider;

/// How many damaged bodies are read, over all readers, unless `FUZZ_INPUTS` says otherwise.
const INPUTS: usize = 100_000;
/// The longest that one may take, in CPU time of the thread. The readers are not optimised here.
const LONGEST: Duration = Duration::from_millis(100);

/// Which reader reads a sample, and what its body is.
fn reader(folder: &str, file: &str) -> Option<(Channel, Provider, &'static str)> {
    let json = "application/json";
    let form = "application/x-www-form-urlencoded";
    Some(match folder {
        "whatsapp" if !file.starts_with("vectors") => (Channel::Whatsapp, Provider::Meta, json),
        "messenger" => (Channel::Messenger, Provider::Meta, json),
        "instagram" => (Channel::Instagram, Provider::Meta, json),
        "twilio_whatsapp" => (Channel::TwilioWhatsapp, Provider::Twilio, form),
        "twilio_call" => (Channel::TwilioCall, Provider::Twilio, form),
        "gmail" if file.contains("push") => (Channel::Gmail, Provider::Google, json),
        "gmail" if file.contains("message_raw") => (Channel::Gmail, Provider::Google, MAIL),
        "zendesk" if file.contains("sunshine") => (Channel::Zendesk, Provider::Sunshine, json),
        "zendesk" => (Channel::Zendesk, Provider::Zendesk, json),
        "personal_whatsapp" if file.contains("waha") => {
            (Channel::PersonalWhatsapp, Provider::Waha, json)
        }
        "personal_whatsapp" => (Channel::PersonalWhatsapp, Provider::Evolution, json),
        "email" if file.contains("postmark") => (Channel::Email, Provider::Postmark, json),
        "email" if file.contains("sns") => (Channel::Email, Provider::Ses, json),
        "email" if file.contains("mailgun") => {
            let parts = "multipart/form-data; boundary=----mgBoundary7MA4YWxk";
            let is = |end: &str| file.ends_with(end);
            let kind = if is(".multipart") {
                parts
            } else if is(".json") {
                json
            } else {
                form
            };
            (Channel::Email, Provider::Mailgun, kind)
        }
        "email" if file.contains("sendgrid") => {
            let parts = "multipart/form-data; boundary=xYzZY";
            let kind = if file.ends_with(".json") { json } else { parts };
            (Channel::Email, Provider::Sendgrid, kind)
        }
        _ => return None,
    })
}

fn samples() -> Vec<Delivery> {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/samples");
    let mut samples = Vec::new();
    for folder in std::fs::read_dir(root).unwrap() {
        let folder = folder.unwrap();
        if !folder.file_type().unwrap().is_dir() {
            continue;
        }
        for file in std::fs::read_dir(folder.path()).unwrap() {
            let file = file.unwrap();
            let names = (folder.file_name(), file.file_name());
            let reader = reader(names.0.to_str().unwrap(), names.1.to_str().unwrap());
            let Some((channel, provider, content_type)) = reader else {
                continue;
            };
            let body = Bytes::from(std::fs::read(file.path()).unwrap());
            samples.push(Delivery {
                id: DeliveryId::new(),
                channel,
                provider,
                account: None,
                route_prefix: String::new(),
                content_type: content_type.to_owned(),
                body: kept(AppId(Uuid::nil()), body),
                correlation_id: String::new(),
                attempts: 1,
                lease: Uuid::nil(),
                taken_at: std::time::Instant::now(),
            });
        }
    }
    samples.sort_by(|one, other| one.body.cmp(&other.body));
    samples
}

/// Numbers that are the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % sides.max(1) as u64).unwrap()
    }
}

/// Pieces that readers stumble over.
const ODD: [&[u8]; 14] = [
    b"\\u0000",
    b"\\ud83d",
    b"\0",
    b"\xff\xfe",
    b"null",
    b"[]",
    b"{}",
    b"-1e999",
    b"18446744073709551616",
    b"\"\"",
    b"%00",
    b"\r\n\r\n",
    b"=?utf-8?b?//8=?=",
    b"\xed\xa0\x80",
];

fn damage(body: &mut Vec<u8>, other: &[u8], dice: &mut Dice) {
    for _ in 0..=dice.roll(4) {
        let at = dice.roll(body.len());
        let end = (at + dice.roll(40)).min(body.len());
        match dice.roll(6) {
            0 => {
                if let Some(byte) = body.get_mut(at) {
                    *byte ^= 1 << dice.roll(8);
                }
            }
            1 => drop(body.drain(at..end)),
            2 => {
                let odd = ODD[dice.roll(ODD.len())];
                drop(body.splice(at..end, odd.iter().copied()));
            }
            3 => body.truncate(at),
            4 => {
                let piece = body[at..end].to_vec();
                drop(body.splice(at..at, piece));
            }
            _ => {
                let from = dice.roll(other.len());
                let to = (from + dice.roll(200)).min(other.len());
                drop(body.splice(at..at, other[from..to].iter().copied()));
            }
        }
    }
}

/// The CPU time of this thread.
fn thread_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanoseconds = stat.split(' ').next().and_then(|first| first.parse().ok());
    Duration::from_nanos(nanoseconds.unwrap_or(0))
}

#[test]
fn damaged_webhooks_are_read_without_panic_and_in_time() {
    let inputs = std::env::var("FUZZ_INPUTS").ok();
    let inputs = inputs
        .and_then(|inputs| inputs.parse().ok())
        .unwrap_or(INPUTS);
    let samples = samples();
    assert!(samples.len() > 100, "{}", samples.len());
    let seed = std::env::var("FUZZ_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let mut dice = Dice(seed.unwrap_or(0x9e37_79b9_7f4a_7c15));
    let mut readable = 0;
    for input in 0..inputs {
        let mut delivery = samples[input % samples.len()].clone();
        let other = samples[dice.roll(samples.len())].body.clone();
        let mut body = delivery.body.to_vec();
        damage(&mut body, &other, &mut dice);
        delivery.body = kept(AppId(Uuid::nil()), Bytes::from(body.clone()));
        let began = thread_time();
        let items = read(&delivery);
        let took = thread_time().saturating_sub(began);
        assert!(took < LONGEST, "{took:?} for {body:?}");
        match items {
            Ok(_) => readable += 1,
            Err(why) => assert!(!why.contains("panicked"), "{body:?}"),
        }
    }
    // The damage is not so great that nothing is left to read.
    assert!(readable > inputs / 4, "{readable} of {inputs}");
}

#[test]
fn hostile_bodies_are_read_in_time() {
    let kinds = samples();
    let nested = "[".repeat(40_000).into_bytes();
    let objects = "{\"a\":".repeat(40_000).into_bytes();
    let many = format!(
        "{{\"object\":\"page\",\"entry\":[{}]}}",
        vec!["{\"messaging\":[{}]}"; 50_000].join(",")
    );
    let pairs = "a=b&".repeat(200_000).into_bytes();
    let long = format!("{{\"object\":\"{}\"}}", "x".repeat(3_000_000)).into_bytes();
    for body in [nested, objects, many.into_bytes(), pairs, long] {
        for kind in kinds.iter().step_by(5) {
            let mut delivery = kind.clone();
            delivery.body = kept(AppId(Uuid::nil()), Bytes::from(body.clone()));
            let began = thread_time();
            if let Err(why) = read(&delivery) {
                assert!(!why.contains("panicked"), "{why}");
            }
            // Megabytes take an unoptimised reader a moment.
            let took = thread_time().saturating_sub(began);
            assert!(took < Duration::from_secs(2), "{took:?}");
        }
    }
}
