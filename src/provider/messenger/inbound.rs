//! What the webhooks of Messenger and Instagram say, in our neutral terms.

use chrono::{DateTime, Utc};
use serde_json::Value;

use crate::inbox::{
    Amendment, AmendmentKind, Direction, FileSource, Inbound, InboundFile, InboundMessage,
    Location, MessageStatus, MessageType, Person, Receipt, Referral, Thread, Watermark,
};
use crate::provider::lenient::{self, cut, flag, id, instant, list, number, text};
use crate::provider::metadata::Metadata;
use crate::provider::place::{Paths, place};
use crate::provider::words::{said, shown};
use crate::provider::{MAX_EMOJI_BYTES, MAX_ITEMS};
use crate::webhook::{Content, Item, Verified};

/// Where a place is in an attachment.
const PLACE: Paths = Paths {
    latitude: "/payload/coordinates/lat",
    longitude: "/payload/coordinates/long",
    name: "/payload/title",
    address: "",
};

/// The fields whose changes are what else comes as events.
const IS_EVENT: [&str; 8] = [
    "messages",
    "message_reactions",
    "message_edit",
    "message_edits",
    "messaging_postbacks",
    "messaging_referral",
    "messaging_referrals",
    "messaging_seen",
];
/// Events that we do not act on: of the hand-over between apps, of permissions, of what was switched
/// on or off.
const NOT_OURS: [&str; 9] = [
    "optin",
    "account_linking",
    "policy_enforcement",
    "policy-enforcement",
    "pass_thread_control",
    "take_thread_control",
    "request_thread_control",
    "app_roles",
    "response_feedback",
];

/// Which of the two products a webhook is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Product {
    /// Messenger, of a page.
    Messenger,
    /// Instagram, of a professional account.
    Instagram,
}

impl Product {
    /// What `object` says.
    const fn object(self) -> &'static str {
        match self {
            Self::Messenger => "page",
            Self::Instagram => "instagram",
        }
    }
}

/// Reads the items of a webhook, in order.
///
/// # Errors
/// The body is no JSON, or not of that product.
pub fn items(product: Product, body: &Verified<bytes::Bytes>) -> Result<Vec<Item>, String> {
    let body = lenient::json(body)?;
    let object = product.object();
    if text(&body, "/object") != object {
        return Err(format!("`object` is not `{object}`"));
    }
    let mut items = Vec::new();
    for entry in list(&body, "/entry") {
        let account = id(entry, "/id").unwrap_or_default();
        let told_at = instant(entry, "/time");
        let of = |event, standby| Event {
            account: &account,
            event,
            standby,
            told_at,
        };
        let events = list(entry, "/messaging").iter();
        let standby = list(entry, "/standby").iter();
        let events = events
            .map(|event| of(event, false))
            .chain(standby.map(|event| of(event, true)))
            .flat_map(|event| event.contents());
        let changes = list(entry, "/changes")
            .iter()
            .flat_map(|change| match change.get("value") {
                // The dashboard's test is of the account 0, which is nobody's.
                Some(event) if account != "0" && IS_EVENT.contains(&&*text(change, "/field")) => {
                    of(event, false).contents()
                }
                _ => vec![Content::Ignored("other_field")],
            });
        let misshapen = ["messaging", "standby", "changes"]
            .into_iter()
            .filter(|name| entry.get(*name).is_some_and(|events| !events.is_array()))
            .map(|name| Content::Unreadable(format!("`{name}` is no list")));
        let contents = events.chain(changes).chain(misshapen);
        items.extend(contents.map(|content| Item {
            route_key: account.clone(),
            content,
        }));
        if items.len() > MAX_ITEMS {
            return Err(format!("the body has more than {MAX_ITEMS} items"));
        }
    }
    Ok(items)
}

/// One event between an account and a person.
struct Event<'a> {
    /// The account that it is of.
    account: &'a str,
    event: &'a Value,
    /// Whether another app answers this person for now.
    standby: bool,
    /// When the provider told of it.
    told_at: Option<DateTime<Utc>>,
}

impl Event<'_> {
    /// What it says: one thing, except that several messages may have been delivered.
    fn contents(&self) -> Vec<Content> {
        let delivery = self.event.get("delivery").unwrap_or(&Value::Null);
        let named = list(delivery, "/mids");
        let named = named.iter().filter_map(|mid| id(mid, ""));
        let delivered = |mid| self.receipt_of(mid, MessageStatus::Delivered);
        let mut all: Vec<Content> = named.map(delivered).collect();
        if all.is_empty() || instant(delivery, "/watermark").is_some() {
            all.push(self.content());
        }
        all
    }

    fn content(&self) -> Content {
        let event = self.event;
        if let Some(message) = event.get("message") {
            return self.message(message);
        }
        if let Some(postback) = event.get("postback") {
            return self.postback(postback);
        }
        if let Some(reaction) = event.get("reaction") {
            return self.reaction(reaction);
        }
        if let Some(edit) = event.get("message_edit") {
            return self.edit(edit);
        }
        if let Some(delivery) = event.get("delivery") {
            return self.receipt(delivery, MessageStatus::Delivered);
        }
        if let Some(read) = event.get("read") {
            return self.receipt(read, MessageStatus::Read);
        }
        if let Some(referral) = event.get("referral") {
            return self.referral(referral);
        }
        if NOT_OURS.iter().any(|name| event.get(*name).is_some()) {
            return Content::Ignored("other_event");
        }
        Content::Unsupported("an event of an unknown kind".to_owned())
    }

    /// When it was.
    fn at(&self) -> Option<DateTime<Utc>> {
        instant(self.event, "/timestamp")
    }

    /// The place of what has no number of its own: milliseconds since 1970.
    fn place(&self) -> i64 {
        self.at()
            .or(self.told_at)
            .map_or(0, |at| at.timestamp_millis())
    }

    /// The customer: whichever of the two the account is not.
    fn customer(&self) -> Option<String> {
        let people = [
            id(self.event, "/sender/id"),
            id(self.event, "/recipient/id"),
        ];
        let mut others = people.into_iter().flatten();
        others.find(|person| person != self.account)
    }

    fn message(&self, message: &Value) -> Content {
        let people = ["/sender/id", "/recipient/id"].map(|path| id(self.event, path));
        let is_self = people.iter().flatten().count() == 2 && people[0] == people[1];
        if is_self || flag(message, "/is_self") {
            return Content::Ignored("self");
        }
        let Some(customer) = self.customer() else {
            return Content::Unreadable("a message without a customer".to_owned());
        };
        let Some(provider_id) = id(message, "/mid") else {
            return Content::Unreadable("a message without `mid`".to_owned());
        };
        if flag(message, "/is_deleted") {
            return Content::Inbound(Inbound::Amendment(Amendment::withdrawal(
                provider_id,
                vec![customer],
            )));
        }
        let is_echo = flag(message, "/is_echo");
        let sent_by_account = id(self.event, "/sender/id").is_some_and(|id| id == self.account);
        let direction = if is_echo || sent_by_account {
            Direction::Outbound
        } else {
            Direction::Inbound
        };
        let attachments = list(message, "/attachments");
        let mut metadata = Metadata::default();
        let attached: Vec<Attached> = attachments.iter().map(Attached::of).collect();
        let first = attached.first();
        let mut words = text(message, "/text");
        let location = first.and_then(|first| first.location.clone());
        let kind = first.map_or("text", |first| first.kind.as_str());
        let message_type = first.map_or(MessageType::Text, |first| first.message_type);
        if message_type == MessageType::Text && words.trim().is_empty() {
            let told = attachments.iter().map(told).filter(|told| !told.is_empty());
            words = told.collect::<Vec<_>>().join("\n");
        }
        let files = attached.iter().filter_map(|attached| attached.file.clone());
        let mut files: Vec<_> = files.collect();
        let words = said(words, message_type, &mut metadata, &mut files);
        if kind != message_type.as_str() {
            metadata.set("raw_kind", kind);
        } else if flag(message, "/is_unsupported") {
            metadata.set("raw_kind", "unsupported");
        }
        if direction == Direction::Outbound {
            metadata.set("source", "external");
        }
        if self.standby {
            metadata.set("standby", true);
        }
        for key in [
            "referral",
            "quick_reply",
            "app_id",
            "metadata",
            "commands",
            "attachments",
        ] {
            metadata.keep(key, message.get(key));
        }
        metadata.keep("story", message.pointer("/reply_to/story"));
        Content::Inbound(Inbound::Message(Box::new(InboundMessage {
            provider_id,
            direction,
            message_type,
            text: words,
            location,
            person: Person {
                identifiers: vec![customer],
                name: String::new(),
            },
            reply_to: id(message, "/reply_to/mid"),
            at: self.at(),
            metadata: metadata.finish(),
            files,
            thread: Thread::default(),
            automatic: false,
        })))
    }

    /// A tap on a button, which says what its title says.
    fn postback(&self, postback: &Value) -> Content {
        let Some(customer) = self.customer() else {
            return Content::Unreadable("a postback without a sender".to_owned());
        };
        let mut words = text(postback, "/title");
        if words.trim().is_empty() {
            words = text(postback, "/payload");
        }
        let words = shown(words);
        // Old versions tell no id: a person taps once in a millisecond.
        let provider_id =
            id(postback, "/mid").unwrap_or_else(|| format!("postback:{customer}:{}", self.place()));
        let mut metadata = Metadata::default();
        metadata.set("raw_kind", "postback");
        metadata.keep("payload", postback.get("payload"));
        metadata.keep("referral", postback.get("referral"));
        if self.standby {
            metadata.set("standby", true);
        }
        Content::Inbound(Inbound::Message(Box::new(InboundMessage {
            provider_id,
            direction: Direction::Inbound,
            message_type: MessageType::Text,
            text: words,
            location: None,
            person: Person {
                identifiers: vec![customer],
                name: String::new(),
            },
            reply_to: None,
            at: self.at(),
            metadata: metadata.finish(),
            files: Vec::new(),
            thread: Thread::default(),
            automatic: false,
        })))
    }

    fn reaction(&self, reaction: &Value) -> Content {
        let Some(provider_id) = id(reaction, "/mid") else {
            return Content::Unreadable("a reaction without `mid`".to_owned());
        };
        let Some(customer) = self.customer() else {
            return Content::Ignored("self");
        };
        if id(self.event, "/sender/id").is_some_and(|sender| sender == self.account) {
            return Content::Ignored("own_reaction");
        }
        let action = text(reaction, "/action");
        let mut emoji = match action.as_str() {
            "unreact" => String::new(),
            _ => text(reaction, "/emoji"),
        };
        if emoji.is_empty() && action != "unreact" {
            emoji = text(reaction, "/reaction");
        }
        cut(&mut emoji, MAX_EMOJI_BYTES);
        Content::Inbound(Inbound::Amendment(Amendment {
            provider_id,
            kind: AmendmentKind::Reaction,
            occurrence: format!("{customer}:{}:{action}", self.place()),
            place: self.place(),
            text: emoji,
            identifiers: vec![customer],
        }))
    }

    fn edit(&self, edit: &Value) -> Content {
        let Some(provider_id) = id(edit, "/mid") else {
            return Content::Unreadable("an edit without `mid`".to_owned());
        };
        let Some(customer) = self.customer() else {
            return Content::Ignored("self");
        };
        let number = number(edit, "/num_edit").filter(|number| (0.0..1e6).contains(number));
        let Some(number) = number else {
            return Content::Unreadable("an edit without `num_edit`".to_owned());
        };
        if edit.get("text").is_none() {
            return Content::Unreadable("an edit without `text`".to_owned());
        }
        let words = shown(text(edit, "/text"));
        Content::Inbound(Inbound::Amendment(Amendment {
            provider_id,
            kind: AmendmentKind::Edit,
            occurrence: format!("{number}"),
            #[expect(clippy::cast_possible_truncation, reason = "it is below a million")]
            place: number as i64,
            text: words,
            identifiers: vec![customer],
        }))
    }

    /// How far messages of ours have come: one that is named, or all until a time.
    fn receipt(&self, receipt: &Value, status: MessageStatus) -> Content {
        let Some(customer) = self.customer() else {
            return Content::Ignored("self");
        };
        if let Some(until) = instant(receipt, "/watermark") {
            return Content::Inbound(Inbound::Watermark(Watermark {
                identifiers: vec![customer],
                thread: None,
                status,
                until,
            }));
        }
        let Some(provider_id) = id(receipt, "/mid") else {
            return Content::Unreadable("a receipt for no message".to_owned());
        };
        self.receipt_of(provider_id, status)
    }

    fn receipt_of(&self, provider_id: String, status: MessageStatus) -> Content {
        Content::Inbound(Inbound::Receipt(Receipt {
            provider_id,
            status,
            at: self.at(),
            failure_code: None,
            failure_message: None,
        }))
    }

    /// By which link somebody came, who has not written yet.
    fn referral(&self, referral: &Value) -> Content {
        let Some(customer) = self.customer() else {
            return Content::Ignored("self");
        };
        let mut metadata = Metadata::default();
        metadata.keep("referral", Some(referral));
        Content::Inbound(Inbound::Referral(Referral {
            provider_id: format!("referral:{customer}:{}", self.place()),
            identifiers: vec![customer],
            metadata: metadata.finish(),
        }))
    }
}

/// What is attached to a message.
struct Attached {
    kind: String,
    message_type: MessageType,
    location: Option<Location>,
    file: Option<InboundFile>,
}

impl Attached {
    fn of(attachment: &Value) -> Self {
        let kind = text(attachment, "/type");
        let location = (kind == "location")
            .then(|| place(attachment, &PLACE))
            .flatten();
        let message_type = match kind.as_str() {
            "image" | "sticker" | "story_mention" => MessageType::Image,
            "audio" => MessageType::Audio,
            "video" => MessageType::Video,
            "file" => MessageType::Document,
            "location" if location.is_some() => MessageType::Location,
            _ => MessageType::Text,
        };
        let is_file = !matches!(message_type, MessageType::Text | MessageType::Location);
        let url = text(attachment, "/payload/url");
        let file = (is_file && !url.is_empty()).then(|| InboundFile {
            name: String::new(),
            content_type: String::new(),
            content_id: None,
            source: FileSource::Url(url),
        });
        Self {
            kind,
            message_type,
            location,
            file,
        }
    }
}

/// What is attached and no file of ours, in words: its title, and where it is.
fn told(attachment: &Value) -> String {
    let title = [
        "/payload/title",
        "/title",
        "/payload/elements/0/title",
        "/payload/product/elements/0/title",
    ]
    .map(|path| text(attachment, path))
    .into_iter()
    .find(|title| !title.is_empty());
    let url = ["/payload/url", "/payload/story_media_url", "/url"]
        .map(|path| text(attachment, path))
        .into_iter()
        .find(|url| !url.is_empty());
    let words: Vec<String> = title.into_iter().chain(url).collect();
    words.join("\n")
}
