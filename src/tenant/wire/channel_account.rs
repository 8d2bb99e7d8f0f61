//! Channel accounts on the wire.

use std::ops::RangeInclusive;

use super::account_secrets::read_secrets;
use crate::error::{Conflict, Error};
use crate::field::{Fields, Most};
use crate::ids::ChannelAccountId;
use crate::pb;
use crate::pb::channel_account::Settings as Shown;
use crate::pb::connect_channel_account_request::Settings as Asked;
use crate::tenant::allowed_origin::AllowedOrigin;
use crate::tenant::channel_account::{AccountChange, ChannelAccount, NewAccount};
use crate::tenant::channel_settings::{
    EmailProvider, EmailSettings, Gateway, GmailSettings, InstagramSettings, MessengerSettings,
    PersonalWhatsappSettings, Settings, TwilioCallSettings, TwilioWhatsappSettings, WebSettings,
    WhatsappSettings, ZendeskIntegration, ZendeskSettings,
};
use crate::tenant::provider_app::{DEFAULT_OVERLAP_SECONDS, Rotation};
use crate::time::to_timestamp;

const ETAG: Most = Most::Characters(64);
const ACCOUNT_NAME: Most = Most::Characters(100);
/// The most digits that an id of Meta's has.
const META_ID: usize = 32;
/// How long what signs webhooks can be, in bytes.
pub(super) const SIGNING_SECRET: RangeInclusive<usize> = 8..=256;
/// The most origins that a widget can be called from.
const MOST_ORIGINS: usize = 50;
const GREETING: Most = Most::Characters(1000);

/// Settings of one message as those that connect an account: they are of the same kinds.
macro_rules! connecting {
    ($kinds:ty, $settings:expr) => {{
        type Kinds = $kinds;
        match $settings {
            Kinds::Whatsapp(of) => Asked::Whatsapp(of),
            Kinds::Messenger(of) => Asked::Messenger(of),
            Kinds::Instagram(of) => Asked::Instagram(of),
            Kinds::TwilioWhatsapp(of) => Asked::TwilioWhatsapp(of),
            Kinds::TwilioCall(of) => Asked::TwilioCall(of),
            Kinds::PersonalWhatsapp(of) => Asked::PersonalWhatsapp(of),
            Kinds::Zendesk(of) => Asked::Zendesk(of),
            Kinds::Email(of) => Asked::Email(of),
            Kinds::Gmail(of) => Asked::Gmail(of),
            Kinds::Web(of) => Asked::Web(of),
        }
    }};
}

impl TryFrom<pb::ConnectChannelAccountRequest> for NewAccount {
    type Error = Error;

    fn try_from(mut request: pb::ConnectChannelAccountRequest) -> Result<Self, Error> {
        let mut fields = Fields::default();
        let name = std::mem::take(&mut request.name);
        let name = fields.required_text("name", name, ACCOUNT_NAME);
        let Some(asked) = request.settings.take() else {
            fields.refuse("settings", "is required: the account to connect");
            fields.finish()?;
            return Err(Error::invalid("settings", "is required"));
        };
        let settings = read_settings(&mut fields, asked);
        let secrets = read_secrets(&mut fields, &settings, request);
        fields.finish()?;
        Ok(Self {
            name,
            settings,
            app_secrets: secrets.app,
            secret_field: secrets.field,
            secrets: secrets.account,
            for_all: false,
        })
    }
}

impl AccountChange {
    /// Reads a change of an account, which is as it is where nothing else is said.
    ///
    /// # Errors
    /// A field is wrong, or the account has changed since its etag was read.
    pub fn new(
        account: ChannelAccount,
        request: pb::UpdateChannelAccountRequest,
    ) -> Result<Self, Error> {
        let (id, version, current) = (account.id, account.version, account.etag());
        let mut fields = Fields::default();
        let given = fields.text("etag", request.etag, ETAG);
        fields.finish()?;
        if !given.is_empty() && given != current {
            return Err(Error::Aborted(Conflict::Etag { given, current }));
        }
        let settings = match request.settings {
            Some(given) => connecting!(pb::update_channel_account_request::Settings, given),
            None => {
                let known = serde_json::from_value(account.settings).map_err(Error::internal)?;
                connecting!(Shown, shown(known))
            }
        };
        let new = NewAccount::try_from(pb::ConnectChannelAccountRequest {
            tenant: request.tenant,
            name: request.name.unwrap_or(account.name),
            settings: Some(settings),
            whatsapp_secrets: request.whatsapp_secrets,
            meta_secrets: request.meta_secrets,
            twilio_secrets: request.twilio_secrets,
            gateway_secrets: request.gateway_secrets,
            zendesk_secrets: request.zendesk_secrets,
            email_secrets: request.email_secrets,
            gmail_secrets: request.gmail_secrets,
            web_secrets: request.web_secrets,
        })?;
        Ok(Self {
            account: id,
            version,
            new,
        })
    }
}

fn read_settings(fields: &mut Fields, asked: Asked) -> Settings {
    match asked {
        Asked::Whatsapp(asked) => Settings::Whatsapp(WhatsappSettings {
            phone_number_id: meta_id(
                fields,
                "whatsapp.phone_number_id",
                asked.phone_number_id,
                true,
            ),
            app_id: meta_id(fields, "whatsapp.app_id", asked.app_id, true),
            own_app: asked.own_app,
            business_account_id: meta_id(
                fields,
                "whatsapp.business_account_id",
                asked.business_account_id,
                false,
            ),
            display_phone_number: fields.text(
                "whatsapp.display_phone_number",
                asked.display_phone_number,
                Most::Characters(64),
            ),
        }),
        Asked::Messenger(asked) => Settings::Messenger(MessengerSettings {
            page_id: meta_id(fields, "messenger.page_id", asked.page_id, true),
            app_id: meta_id(fields, "messenger.app_id", asked.app_id, true),
            own_app: asked.own_app,
        }),
        Asked::Instagram(asked) => Settings::Instagram(InstagramSettings {
            instagram_account_id: meta_id(
                fields,
                "instagram.instagram_account_id",
                asked.instagram_account_id,
                true,
            ),
            app_id: meta_id(fields, "instagram.app_id", asked.app_id, true),
            own_app: asked.own_app,
        }),
        Asked::TwilioWhatsapp(asked) => Settings::TwilioWhatsapp(TwilioWhatsappSettings {
            account_sid: account_sid(fields, "twilio_whatsapp.account_sid", asked.account_sid),
            phone_number: phone(
                fields,
                "twilio_whatsapp.phone_number",
                asked.phone_number,
                true,
            ),
            own_app: asked.own_app,
        }),
        Asked::TwilioCall(asked) => Settings::TwilioCall(TwilioCallSettings {
            account_sid: account_sid(fields, "twilio_call.account_sid", asked.account_sid),
            phone_number: phone(fields, "twilio_call.phone_number", asked.phone_number, true),
            own_app: asked.own_app,
            greeting: fields.text("twilio_call.greeting", asked.greeting, GREETING),
            greeting_language: fields.text(
                "twilio_call.greeting_language",
                asked.greeting_language,
                Most::Characters(16),
            ),
            forward_to: phone(fields, "twilio_call.forward_to", asked.forward_to, false),
            voicemail: asked.voicemail,
        }),
        Asked::PersonalWhatsapp(asked) => {
            let gateway = match fields.choice("personal_whatsapp.gateway", asked.gateway) {
                Some(pb::Gateway::Waha) => Gateway::Waha,
                Some(pb::Gateway::Evolution) => Gateway::Evolution,
                Some(pb::Gateway::Unspecified) | None => {
                    fields.refuse("personal_whatsapp.gateway", "is required");
                    Gateway::Waha
                }
            };
            let session = "personal_whatsapp.session";
            Settings::PersonalWhatsapp(PersonalWhatsappSettings {
                gateway,
                base_url: base_url(fields, "personal_whatsapp.base_url", asked.base_url),
                session: fields.required_text(session, asked.session, Most::Bytes(128)),
            })
        }
        Asked::Zendesk(asked) => {
            let integration = match fields.choice("zendesk.integration", asked.integration) {
                Some(pb::ZendeskIntegration::Tickets) => ZendeskIntegration::Tickets,
                Some(pb::ZendeskIntegration::Conversations) => ZendeskIntegration::Conversations,
                Some(pb::ZendeskIntegration::Unspecified) | None => {
                    fields.refuse("zendesk.integration", "is required");
                    ZendeskIntegration::Tickets
                }
            };
            let (subdomain, id) = (asked.subdomain, asked.external_id);
            Settings::Zendesk(ZendeskSettings {
                integration,
                subdomain: word(fields, "zendesk.subdomain", subdomain, 63),
                external_id: word(fields, "zendesk.external_id", id, 64),
            })
        }
        Asked::Email(asked) => {
            let provider = match fields.choice("email.provider", asked.provider) {
                Some(pb::EmailProvider::Postmark) => EmailProvider::Postmark,
                Some(pb::EmailProvider::Mailgun) => EmailProvider::Mailgun,
                Some(pb::EmailProvider::Sendgrid) => EmailProvider::Sendgrid,
                Some(pb::EmailProvider::Ses) => EmailProvider::Ses,
                Some(pb::EmailProvider::Unspecified) | None => {
                    fields.refuse("email.provider", "is required");
                    EmailProvider::Postmark
                }
            };
            Settings::Email(EmailSettings {
                address: address(fields, "email.address", &asked.address),
                provider,
                provider_account: visible(
                    fields,
                    "email.provider_account",
                    asked.provider_account,
                    1..=255,
                    true,
                ),
                own_app: asked.own_app,
            })
        }
        Asked::Gmail(asked) => Settings::Gmail(GmailSettings {
            address: address(fields, "gmail.address", &asked.address),
            service_account: address(fields, "gmail.service_account", &asked.service_account),
            client_id: visible(fields, "gmail.client_id", asked.client_id, 1..=255, true),
            topic: topic(fields, "gmail.topic", asked.topic),
            own_app: asked.own_app,
        }),
        Asked::Web(asked) => Settings::Web(WebSettings {
            widget_token: visible(
                fields,
                "web.widget_token",
                asked.widget_token,
                1..=64,
                false,
            ),
            allowed_origins: allowed_origins(fields, &asked.allowed_origins),
            identity_required: asked.identity_required,
            greeting: fields.text("web.greeting", asked.greeting, GREETING),
        }),
    }
}

/// Reads the origins of pages.
fn allowed_origins(fields: &mut Fields, asked: &[String]) -> Vec<AllowedOrigin> {
    let field = "web.allowed_origins";
    if !(1..=MOST_ORIGINS).contains(&asked.len()) {
        fields.refuse(field, format!("must have 1 to {MOST_ORIGINS} values"));
        return Vec::new();
    }
    let mut origins = Vec::with_capacity(asked.len());
    for (index, text) in asked.iter().enumerate() {
        match AllowedOrigin::parse(text).filter(|_| text.len() <= 255) {
            Some(origin) if origins.contains(&origin) => {}
            Some(origin) => origins.push(origin),
            None => fields.refuse(
                format!("{field}[{index}]"),
                "must be an origin as browsers send it, such as `https://shop.example`, `https://*.shop.example` or `http://localhost:3000`, of at most 255 bytes, or `app`",
            ),
        }
    }
    origins
}

/// The longest that a secret stays valid beside the next, in seconds.
const LONGEST_OVERLAP: i64 = 30 * 24 * 3600;

impl TryFrom<pb::RotateChannelAccountSecretRequest> for Rotation {
    type Error = Error;

    fn try_from(request: pb::RotateChannelAccountSecretRequest) -> Result<Self, Error> {
        let mut fields = Fields::default();
        let id = &request.channel_account_id;
        let account = fields.required_id("channel_account_id", id, ChannelAccountId);
        let secret = visible(&mut fields, "secret", request.secret, SIGNING_SECRET, true);
        let overlap_seconds = match request.overlap {
            None => DEFAULT_OVERLAP_SECONDS,
            Some(overlap) => {
                if overlap.nanos != 0 || !(0..=LONGEST_OVERLAP).contains(&overlap.seconds) {
                    fields.refuse("overlap", "must be whole seconds, 0 to 30 days");
                }
                overlap.seconds
            }
        };
        fields.finish()?;
        Ok(Self {
            account,
            secret,
            overlap_seconds,
            for_all: false,
        })
    }
}

/// Reads an id of Meta's: digits.
fn meta_id(fields: &mut Fields, field: &str, id: String, required: bool) -> String {
    let digits = id.bytes().all(|byte| byte.is_ascii_digit());
    if id.is_empty() && required {
        fields.refuse(field, "is required");
    } else if id.len() > META_ID || !digits {
        fields.refuse(field, format!("must be at most {META_ID} digits"));
    }
    id
}

/// Reads visible ASCII characters of a length; nothing is nothing, unless it is required.
pub(super) fn visible(
    fields: &mut Fields,
    field: &str,
    text: String,
    length: RangeInclusive<usize>,
    required: bool,
) -> String {
    if text.is_empty() {
        if required {
            fields.refuse(field, "is required");
        }
        return text;
    }
    let is_visible = text.bytes().all(|byte| byte.is_ascii_graphic());
    if !is_visible || !length.contains(&text.len()) {
        let (least, most) = (length.start(), length.end());
        let words = format!("must be {least} to {most} visible ASCII characters");
        fields.refuse(field, words);
    }
    text
}

/// Reads a word of letters, digits and hyphens.
fn word(fields: &mut Fields, field: &str, word: String, most: usize) -> String {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    if word.is_empty() {
        fields.refuse(field, "is required");
    } else if word.len() > most || !word.bytes().all(is_word) {
        let words = format!("must be at most {most} letters, digits and hyphens");
        fields.refuse(field, words);
    }
    word
}

/// Reads the name of a Pub/Sub topic.
fn topic(fields: &mut Fields, field: &str, topic: String) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~+%:".contains(&byte);
    let parts: Vec<&str> = topic.split('/').collect();
    let is_topic = matches!(parts.as_slice(), ["projects", project, "topics", name]
        if [project, name].iter().all(|part| !part.is_empty() && part.bytes().all(is_plain)));
    if !is_topic || topic.len() > 512 {
        fields.refuse(
            field,
            "must be a topic such as `projects/acme/topics/gmail`",
        );
    }
    topic
}

/// Reads Twilio's id of an account.
fn account_sid(fields: &mut Fields, field: &str, sid: String) -> String {
    let digits = sid.strip_prefix("AC").unwrap_or_default();
    let is_sid = digits.len() == 32 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    if !is_sid {
        fields.refuse(field, "must be `AC` and 32 hexadecimal digits");
    }
    sid
}

/// Reads a telephone number with its country code.
fn phone(fields: &mut Fields, field: &str, number: String, required: bool) -> String {
    if number.is_empty() && !required {
        return number;
    }
    let digits = number.strip_prefix('+').unwrap_or_default();
    let are_digits = digits.bytes().all(|byte| byte.is_ascii_digit());
    if !(5..=15).contains(&digits.len()) || !are_digits {
        fields.refuse(field, "must be a telephone number such as `+15550002001`");
    }
    number
}

/// Reads where a gateway is; the port that the scheme has anyway and a last slash go.
fn base_url(fields: &mut Fields, field: &str, url: String) -> String {
    let read = url.parse::<http::Uri>().ok().filter(|uri| {
        let is_http = matches!(uri.scheme_str(), Some("https" | "http"));
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        is_http && !authority.is_empty() && !authority.contains('@') && uri.query().is_none()
    });
    let Some(uri) = read.filter(|_| url.len() <= 255) else {
        fields.refuse(
            field,
            "must be an address such as `https://waha.example.com`, of at most 255 bytes",
        );
        return url;
    };
    let scheme = uri.scheme_str().unwrap_or_default();
    let host = uri.host().unwrap_or_default().to_ascii_lowercase();
    let port = match (scheme, uri.port_u16()) {
        (_, None) | ("https", Some(443)) | ("http", Some(80)) => String::new(),
        (_, Some(port)) => format!(":{port}"),
    };
    let path = uri.path().trim_end_matches('/');
    format!("{scheme}://{host}{port}{path}")
}

/// Reads an e-mail address, in small letters, without anything after `+`.
fn address(fields: &mut Fields, field: &str, address: &str) -> String {
    let small = address.to_lowercase();
    let parts = small.split_once('@');
    let is_address = parts.is_some_and(|(local, domain)| {
        let odd = |letter: char| letter.is_whitespace() || letter.is_control() || letter == '@';
        !local.is_empty() && domain.contains('.') && !small.replacen('@', "", 1).contains(odd)
    });
    if small.is_empty() {
        fields.refuse(field, "is required");
    } else if !is_address || small.len() > 254 {
        fields.refuse(field, "must be an e-mail address of at most 254 bytes");
    }
    let (local, domain) = parts.unwrap_or_default();
    let local = local.split_once('+').map_or(local, |(local, _)| local);
    format!("{local}@{domain}")
}

impl TryFrom<ChannelAccount> for pb::ChannelAccount {
    type Error = Error;

    fn try_from(account: ChannelAccount) -> Result<Self, Error> {
        let etag = account.etag();
        let settings = serde_json::from_value(account.settings).map_err(Error::internal)?;
        let channel = account.channel.as_str();
        let webhook_path = match settings {
            Settings::Web(_) => "/widget/v1".to_owned(),
            // The address of a call names the number: not all that Twilio tells of a call does.
            Settings::TwilioCall(_) => format!("/webhooks/{channel}/{}", account.id),
            _ => format!("/webhooks/{channel}/{}", account.app_id),
        };
        Ok(Self {
            id: account.id.to_string(),
            tenant: account.tenant,
            channel: pb::Channel::from(account.channel).into(),
            name: account.name,
            webhook_path,
            settings: Some(shown(settings)),
            create_time: Some(to_timestamp(account.created_at)),
            update_time: Some(to_timestamp(account.updated_at)),
            disconnect_time: account.disconnected_at.map(to_timestamp),
            disable_time: account.disabled_at.map(to_timestamp),
            provider_state: account.provider_state,
            provider_state_time: account.provider_state_at.map(to_timestamp),
            previous_secret_expire_time: account.previous_secret_expires_at.map(to_timestamp),
            etag,
            prove_time: account.proved_at.map(to_timestamp),
        })
    }
}

fn shown(settings: Settings) -> Shown {
    match settings {
        Settings::Whatsapp(of) => Shown::Whatsapp(pb::WhatsappSettings {
            phone_number_id: of.phone_number_id,
            app_id: of.app_id,
            own_app: of.own_app,
            business_account_id: of.business_account_id,
            display_phone_number: of.display_phone_number,
        }),
        Settings::Messenger(of) => Shown::Messenger(pb::MessengerSettings {
            page_id: of.page_id,
            app_id: of.app_id,
            own_app: of.own_app,
        }),
        Settings::Instagram(of) => Shown::Instagram(pb::InstagramSettings {
            instagram_account_id: of.instagram_account_id,
            app_id: of.app_id,
            own_app: of.own_app,
        }),
        Settings::TwilioWhatsapp(of) => Shown::TwilioWhatsapp(pb::TwilioWhatsappSettings {
            account_sid: of.account_sid,
            phone_number: of.phone_number,
            own_app: of.own_app,
        }),
        Settings::TwilioCall(of) => Shown::TwilioCall(pb::TwilioCallSettings {
            account_sid: of.account_sid,
            phone_number: of.phone_number,
            own_app: of.own_app,
            greeting: of.greeting,
            greeting_language: of.greeting_language,
            forward_to: of.forward_to,
            voicemail: of.voicemail,
        }),
        Settings::PersonalWhatsapp(of) => Shown::PersonalWhatsapp(pb::PersonalWhatsappSettings {
            gateway: match of.gateway {
                Gateway::Waha => pb::Gateway::Waha,
                Gateway::Evolution => pb::Gateway::Evolution,
            }
            .into(),
            base_url: of.base_url,
            session: of.session,
        }),
        Settings::Zendesk(of) => Shown::Zendesk(pb::ZendeskSettings {
            integration: match of.integration {
                ZendeskIntegration::Tickets => pb::ZendeskIntegration::Tickets,
                ZendeskIntegration::Conversations => pb::ZendeskIntegration::Conversations,
            }
            .into(),
            subdomain: of.subdomain,
            external_id: of.external_id,
        }),
        Settings::Email(of) => Shown::Email(pb::EmailSettings {
            address: of.address,
            provider: match of.provider {
                EmailProvider::Postmark => pb::EmailProvider::Postmark,
                EmailProvider::Mailgun => pb::EmailProvider::Mailgun,
                EmailProvider::Sendgrid => pb::EmailProvider::Sendgrid,
                EmailProvider::Ses => pb::EmailProvider::Ses,
            }
            .into(),
            provider_account: of.provider_account,
            own_app: of.own_app,
        }),
        Settings::Gmail(of) => Shown::Gmail(pb::GmailSettings {
            address: of.address,
            service_account: of.service_account,
            client_id: of.client_id,
            topic: of.topic,
            own_app: of.own_app,
        }),
        Settings::Web(of) => Shown::Web(pb::WebSettings {
            widget_token: of.widget_token,
            allowed_origins: (of.allowed_origins.iter())
                .map(|origin| origin.as_str().to_owned())
                .collect(),
            identity_required: of.identity_required,
            greeting: of.greeting,
        }),
    }
}
