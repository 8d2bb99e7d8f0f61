//! What is particular to the accounts of each channel.

use serde::{Deserialize, Serialize};

use super::allowed_origin::AllowedOrigin;
use crate::channel::Channel;
use crate::stored_enum::stored_enum;

stored_enum! {
    /// Who signs webhooks.
    Provider {
        /// Meta: WhatsApp, Messenger, Instagram.
        Meta = "meta",
        /// Twilio: WhatsApp and calls.
        Twilio = "twilio",
        /// Postmark: e-mail.
        Postmark = "postmark",
        /// Mailgun: e-mail.
        Mailgun = "mailgun",
        /// SendGrid: e-mail.
        Sendgrid = "sendgrid",
        /// Amazon SES, through SNS: e-mail.
        Ses = "ses",
        /// Google: Gmail, through Pub/Sub.
        Google = "google",
        /// Zendesk: tickets.
        Zendesk = "zendesk",
        /// Zendesk: the Conversations API.
        Sunshine = "sunshine",
        /// WAHA: a gateway to personal numbers.
        Waha = "waha",
        /// Evolution API: a gateway to personal numbers.
        Evolution = "evolution",
        /// Ourselves: the chat widget, whose page proves its users.
        Widget = "web",
    }
}

impl Provider {
    /// Who can sign webhooks of a channel.
    pub fn of(channel: Channel) -> &'static [Self] {
        match channel {
            Channel::Whatsapp | Channel::Messenger | Channel::Instagram => &[Self::Meta],
            Channel::TwilioWhatsapp | Channel::TwilioCall => &[Self::Twilio],
            Channel::Email => &[Self::Postmark, Self::Mailgun, Self::Sendgrid, Self::Ses],
            Channel::PersonalWhatsapp => &[Self::Waha, Self::Evolution],
            Channel::Zendesk => &[Self::Zendesk, Self::Sunshine],
            Channel::Gmail => &[Self::Google],
            // Nobody sends webhooks for the widget: its visitors call us.
            Channel::Web => &[],
        }
    }

    /// Whether an account needs a secret of it.
    pub fn needs_secret(self) -> bool {
        // Amazon's certificate signs, and a widget need not identify anybody.
        !matches!(self, Self::Ses | Self::Widget)
    }

    /// Whether its bodies name an account by what is unique for the app alone.
    pub fn has_own_keys(self) -> bool {
        matches!(self, Self::Waha | Self::Evolution)
    }
}

/// The app that signs for an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppName {
    /// Who signs.
    pub provider: Provider,
    /// What the provider calls the app.
    pub external_id: String,
    /// Whether it is the tenant's own.
    pub own: bool,
}

/// What is particular to a channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "channel", rename_all = "snake_case")]
pub enum Settings {
    /// A WhatsApp account.
    Whatsapp(WhatsappSettings),
    /// A Facebook page.
    Messenger(MessengerSettings),
    /// An Instagram account.
    Instagram(InstagramSettings),
    /// A WhatsApp sender at Twilio.
    TwilioWhatsapp(TwilioWhatsappSettings),
    /// A telephone number at Twilio.
    TwilioCall(TwilioCallSettings),
    /// A personal WhatsApp number behind a gateway.
    PersonalWhatsapp(PersonalWhatsappSettings),
    /// An account at Zendesk.
    Zendesk(ZendeskSettings),
    /// An e-mail address.
    Email(EmailSettings),
    /// A mailbox at Gmail.
    Gmail(GmailSettings),
    /// A chat widget.
    Web(WebSettings),
}

impl Settings {
    /// The channel.
    pub fn channel(&self) -> Channel {
        match self {
            Self::Whatsapp(_) => Channel::Whatsapp,
            Self::Messenger(_) => Channel::Messenger,
            Self::Instagram(_) => Channel::Instagram,
            Self::TwilioWhatsapp(_) => Channel::TwilioWhatsapp,
            Self::TwilioCall(_) => Channel::TwilioCall,
            Self::PersonalWhatsapp(_) => Channel::PersonalWhatsapp,
            Self::Zendesk(_) => Channel::Zendesk,
            Self::Email(_) => Channel::Email,
            Self::Gmail(_) => Channel::Gmail,
            Self::Web(_) => Channel::Web,
        }
    }

    /// By what webhooks name the account, unique for the channel.
    pub fn route_key(&self) -> String {
        match self {
            Self::Whatsapp(settings) => settings.phone_number_id.clone(),
            Self::Messenger(settings) => settings.page_id.clone(),
            Self::Instagram(settings) => settings.instagram_account_id.clone(),
            Self::TwilioWhatsapp(settings) => {
                format!("{}/{}", settings.account_sid, settings.phone_number)
            }
            Self::TwilioCall(settings) => {
                format!("{}/{}", settings.account_sid, settings.phone_number)
            }
            Self::PersonalWhatsapp(settings) => {
                format!("{}{}", route_prefix(&settings.base_url), settings.session)
            }
            Self::Zendesk(settings) => settings.external_id.clone(),
            Self::Email(settings) => settings.address.clone(),
            Self::Gmail(settings) => settings.address.clone(),
            Self::Web(settings) => settings.widget_token.clone(),
        }
    }

    /// The app that signs for the account.
    pub fn app(&self) -> AppName {
        let name = |provider, external_id: &str, own| AppName {
            provider,
            external_id: external_id.to_owned(),
            own,
        };
        match self {
            Self::Whatsapp(of) => name(Provider::Meta, &of.app_id, of.own_app),
            Self::Messenger(of) => name(Provider::Meta, &of.app_id, of.own_app),
            Self::Instagram(of) => name(Provider::Meta, &of.app_id, of.own_app),
            Self::TwilioWhatsapp(of) => name(Provider::Twilio, &of.account_sid, of.own_app),
            Self::TwilioCall(of) => name(Provider::Twilio, &of.account_sid, of.own_app),
            Self::PersonalWhatsapp(of) => {
                let provider = match of.gateway {
                    Gateway::Waha => Provider::Waha,
                    Gateway::Evolution => Provider::Evolution,
                };
                name(provider, &of.base_url, true)
            }
            Self::Zendesk(of) => match of.integration {
                ZendeskIntegration::Tickets => name(Provider::Zendesk, &of.external_id, true),
                ZendeskIntegration::Conversations => {
                    name(Provider::Sunshine, &of.external_id, true)
                }
            },
            Self::Email(of) => name(of.provider.into(), &of.provider_account, of.own_app),
            Self::Gmail(of) => name(Provider::Google, &of.service_account, of.own_app),
            Self::Web(of) => name(Provider::Widget, &of.widget_token, true),
        }
    }
}

/// What stands before the keys of a gateway.
pub fn route_prefix(base_url: &str) -> String {
    format!("{base_url}#")
}

/// A phone number on the WhatsApp Business Platform.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WhatsappSettings {
    /// Meta's id of the phone number.
    pub phone_number_id: String,
    /// Meta's id of the app.
    pub app_id: String,
    /// Whether the app is the tenant's own.
    pub own_app: bool,
    /// Meta's id of the business account.
    pub business_account_id: String,
    /// The phone number for people.
    pub display_phone_number: String,
}

/// A Facebook page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessengerSettings {
    /// Meta's id of the page.
    pub page_id: String,
    /// Meta's id of the app.
    pub app_id: String,
    /// Whether the app is the tenant's own.
    pub own_app: bool,
}

/// A professional account on Instagram.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstagramSettings {
    /// Meta's id of the account.
    pub instagram_account_id: String,
    /// Meta's id of the app.
    pub app_id: String,
    /// Whether the app is the tenant's own.
    pub own_app: bool,
}

/// A WhatsApp sender at Twilio.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TwilioWhatsappSettings {
    /// Twilio's id of the account.
    pub account_sid: String,
    /// The sender's number.
    pub phone_number: String,
    /// Whether the Twilio account is the tenant's own.
    pub own_app: bool,
}

/// A telephone number at Twilio.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TwilioCallSettings {
    /// Twilio's id of the account.
    pub account_sid: String,
    /// The number.
    pub phone_number: String,
    /// Whether the Twilio account is the tenant's own.
    pub own_app: bool,
    /// What a caller hears first.
    pub greeting: String,
    /// The language of the greeting.
    pub greeting_language: String,
    /// Whom the call is put through to.
    pub forward_to: String,
    /// Whether who reaches nobody may leave a message.
    pub voicemail: bool,
}

stored_enum! {
    /// Which gateway a personal number is behind.
    Gateway {
        /// WAHA.
        Waha = "waha",
        /// Evolution API.
        Evolution = "evolution",
    }
}

/// A personal WhatsApp number behind a gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PersonalWhatsappSettings {
    /// Which gateway.
    pub gateway: Gateway,
    /// Where it is.
    pub base_url: String,
    /// The session or instance.
    pub session: String,
}

stored_enum! {
    /// Which part of Zendesk an account is.
    ZendeskIntegration {
        /// Tickets.
        Tickets = "tickets",
        /// The Conversations API.
        Conversations = "conversations",
    }
}

/// An account at Zendesk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ZendeskSettings {
    /// Which part of it.
    pub integration: ZendeskIntegration,
    /// The name in front of `.zendesk.com`.
    pub subdomain: String,
    /// By what webhooks name it.
    pub external_id: String,
}

stored_enum! {
    /// By which service the mail of an address arrives.
    EmailProvider {
        /// Postmark.
        Postmark = "postmark",
        /// Mailgun.
        Mailgun = "mailgun",
        /// SendGrid.
        Sendgrid = "sendgrid",
        /// Amazon SES, through SNS.
        Ses = "ses",
    }
}

impl From<EmailProvider> for Provider {
    fn from(provider: EmailProvider) -> Self {
        match provider {
            EmailProvider::Postmark => Self::Postmark,
            EmailProvider::Mailgun => Self::Mailgun,
            EmailProvider::Sendgrid => Self::Sendgrid,
            EmailProvider::Ses => Self::Ses,
        }
    }
}

/// An e-mail address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EmailSettings {
    /// The address, in small letters, without anything after `+`.
    pub address: String,
    /// By which service its mail arrives.
    pub provider: EmailProvider,
    /// What tells the webhook's owner apart at the service.
    pub provider_account: String,
    /// Whether that is the tenant's own.
    pub own_app: bool,
}

/// A mailbox at Gmail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GmailSettings {
    /// The address, in small letters.
    pub address: String,
    /// The service account as which Pub/Sub pushes.
    pub service_account: String,
    /// Google's id of the OAuth client.
    pub client_id: String,
    /// The Pub/Sub topic that changes are told to.
    pub topic: String,
    /// Whether the client is the tenant's own.
    pub own_app: bool,
}

/// A chat widget.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebSettings {
    /// What it calls itself by; empty while nobody has made it up.
    pub widget_token: String,
    /// The origins of the pages that have it.
    pub allowed_origins: Vec<AllowedOrigin>,
    /// Whether visitors write only after it is proved who they are.
    pub identity_required: bool,
    /// What it shows first.
    pub greeting: String,
}
