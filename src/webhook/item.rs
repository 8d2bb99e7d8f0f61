//! What a delivery says, item by item.

use std::panic::AssertUnwindSafe;

use super::delivery::Delivery;
use crate::channel::Channel;
use crate::inbox::Inbound;
use crate::provider::email::StoredMail;
use crate::provider::messenger::{self, Product};
use crate::provider::{email, gmail, personal_whatsapp, twilio, whatsapp, zendesk};
use crate::tenant::{Provider, Route, Routes, Sought, Unnamed};

/// An item of a delivery.
#[derive(Debug, PartialEq)]
pub struct Item {
    /// By what the provider names the account.
    pub route_key: String,
    /// What it says.
    pub content: Content,
}

/// What an item says.
#[derive(Debug, PartialEq)]
pub enum Content {
    /// Something for the inbox.
    Inbound(Inbound),
    /// That a topic is to be subscribed to, at an address.
    Subscription(String),
    /// A mail that is kept in S3.
    StoredMail(StoredMail),
    /// That there is something new in the account's mailbox.
    MailboxChanged,
    /// What the provider says of the account, in its own word.
    AccountState(String),
    /// What Meta says of a business account, in its own word: of all numbers of it.
    BusinessState {
        /// Meta's id of the business account.
        business_account: String,
        /// The word.
        state: String,
    },
    /// Nothing that we act on; the word says what, for the count.
    Ignored(&'static str),
    /// Something that we cannot act on yet; the word says what.
    Unsupported(String),
    /// Not what the provider documents; the words say why, without content.
    Unreadable(String),
}

impl Item {
    /// Whether it is for an account that it does not name.
    fn needs_account(&self, channel: Channel) -> bool {
        self.route_key.is_empty() && !self.is_of_no_account() || self.may_name_another(channel)
    }

    /// Whether no account has to be found for it.
    fn is_of_no_account(&self) -> bool {
        matches!(
            self.content,
            Content::Ignored(_) | Content::BusinessState { .. }
        )
    }

    /// Whether what it names may be no account: a report of our mail has the sender, who may be
    /// another address than the one that takes in mail.
    fn may_name_another(&self, channel: Channel) -> bool {
        channel == Channel::Email && matches!(self.content, Content::Inbound(Inbound::Receipt(_)))
    }

    /// What the provider calls what it tells.
    pub(super) fn provider_id(&self) -> Option<&str> {
        match &self.content {
            Content::Inbound(inbound) => inbound.provider_id(),
            _ => None,
        }
    }

    /// By what its account is known, among those of all providers of the channel. No key has a NUL,
    /// which the database would refuse with all that comes with it.
    pub(super) fn key(&self, delivery: &Delivery) -> String {
        let mut key = format!("{}{}", delivery.route_prefix, self.route_key);
        key.retain(|character| character != '\0');
        key
    }

    /// Where it goes.
    pub(super) fn route<'a>(&self, delivery: &Delivery, routes: &'a Routes) -> Option<&'a Route> {
        if self.route_key.is_empty() {
            return routes.unnamed();
        }
        let any = || {
            let unnamed = routes.unnamed();
            unnamed.filter(|_| self.may_name_another(delivery.channel))
        };
        routes.named(&self.key(delivery)).or_else(any)
    }

    /// Whether it goes to nobody, or to an account that takes in what comes.
    pub(super) fn has_place(&self, delivery: &Delivery, routes: &Routes) -> bool {
        self.is_of_no_account() || self.route(delivery, routes).is_some_and(Route::is_open)
    }
}

/// The items of a delivery, or why they cannot be read.
pub(super) type Items = Result<Vec<Item>, String>;

/// Reads the items of a delivery.
pub(super) fn read(delivery: &Delivery) -> Items {
    let (body, content_type) = (&delivery.body, delivery.content_type.as_str());
    let at = delivery.received_at();
    let reading = AssertUnwindSafe(|| match delivery.channel {
        Channel::Whatsapp => whatsapp::items(body),
        Channel::Messenger => messenger::items(Product::Messenger, body),
        Channel::Instagram => messenger::items(Product::Instagram, body),
        Channel::TwilioWhatsapp => twilio::messages(content_type, body, at),
        Channel::TwilioCall => twilio::calls(content_type, body, at),
        Channel::PersonalWhatsapp if delivery.provider == Provider::Evolution => {
            personal_whatsapp::evolution_items(body)
        }
        Channel::PersonalWhatsapp => personal_whatsapp::waha_items(body),
        Channel::Zendesk if delivery.provider == Provider::Sunshine => zendesk::conversations(body),
        Channel::Zendesk => zendesk::tickets(body),
        Channel::Email => arrivals(delivery).map(email::items),
        Channel::Gmail => gmail::items(content_type, body),
        other => Err(format!("webhooks of `{}` are not read yet", other.as_str())),
    });
    std::panic::catch_unwind(reading).unwrap_or_else(|_| {
        metrics::counter!("panics_total").increment(1);
        Err("the reader of the body panicked".to_owned())
    })
}

/// The accounts that items of a delivery are for.
pub(super) fn sought(delivery: &Delivery, items: &[Item]) -> Sought {
    let named = items.iter().filter(|item| !item.route_key.is_empty());
    let mut keys: Vec<String> = named.map(|item| item.key(delivery)).collect();
    keys.sort_unstable();
    keys.dedup();
    let unnamed = Unnamed {
        app: delivery.body.app(),
        account: delivery.account,
    };
    Sought {
        channel: delivery.channel,
        keys,
        unnamed: (items.iter())
            .any(|item| item.needs_account(delivery.channel))
            .then_some(unnamed),
    }
}

/// Reads what arrived by mail.
fn arrivals(delivery: &Delivery) -> Result<Vec<email::Arrival>, String> {
    let (body, content_type) = (&delivery.body, delivery.content_type.as_str());
    match delivery.provider {
        Provider::Postmark => email::postmark::arrivals(body),
        Provider::Mailgun => email::mailgun::arrivals(content_type, body),
        Provider::Sendgrid => email::sendgrid::arrivals(content_type, body),
        Provider::Ses => email::ses::arrivals(body),
        other => Err(format!("`{}` delivers no mail", other.as_str())),
    }
}
