//! Secrets of channel accounts on the wire.

use std::ops::RangeInclusive;

use super::channel_account::{SIGNING_SECRET, visible};
use crate::field::Fields;
use crate::pb;
use crate::tenant::channel_account::AccountSecrets;
use crate::tenant::channel_settings::{EmailProvider, Settings};
use crate::tenant::provider_app::AppSecrets;

/// How long a token by which we call a provider can be, in bytes.
const TOKEN: RangeInclusive<usize> = 1..=4096;

/// The secrets that a request gives.
pub(super) struct Secrets {
    /// The app's.
    pub app: AppSecrets,
    /// The account's own.
    pub account: AccountSecrets,
    /// What the request calls the app's.
    pub field: &'static str,
}

/// Reads the secrets of an account that has such settings.
pub(super) fn read_secrets(
    fields: &mut Fields,
    settings: &Settings,
    request: pb::ConnectChannelAccountRequest,
) -> Secrets {
    refuse_others(fields, settings, &request);
    let (field, signing, verify, token) = match settings {
        Settings::Whatsapp(_) => {
            let given = request.whatsapp_secrets.unwrap_or_default();
            (
                "whatsapp_secrets.app_secret",
                given.app_secret,
                ("whatsapp_secrets.verify_token", given.verify_token),
                ("whatsapp_secrets.access_token", given.access_token),
            )
        }
        Settings::Messenger(_) | Settings::Instagram(_) => {
            let given = request.meta_secrets.unwrap_or_default();
            (
                "meta_secrets.app_secret",
                given.app_secret,
                ("meta_secrets.verify_token", given.verify_token),
                ("meta_secrets.access_token", given.access_token),
            )
        }
        Settings::TwilioWhatsapp(_) | Settings::TwilioCall(_) => {
            let given = request.twilio_secrets.unwrap_or_default();
            let none = ("", String::new());
            (
                "twilio_secrets.auth_token",
                given.auth_token,
                none.clone(),
                none,
            )
        }
        Settings::PersonalWhatsapp(_) => {
            let given = request.gateway_secrets.unwrap_or_default();
            (
                "gateway_secrets.signing_key",
                given.signing_key,
                ("", String::new()),
                ("gateway_secrets.api_key", given.api_key),
            )
        }
        Settings::Zendesk(_) => {
            let given = request.zendesk_secrets.unwrap_or_default();
            (
                "zendesk_secrets.signing_secret",
                given.signing_secret,
                ("", String::new()),
                ("zendesk_secrets.api_token", given.api_token),
            )
        }
        Settings::Email(email) => {
            let given = request.email_secrets.unwrap_or_default();
            let field = "email_secrets.signing_key";
            if email.provider == EmailProvider::Ses && !given.signing_key.is_empty() {
                fields.refuse(field, "must be empty for SES, whose certificate signs");
            }
            let token = ("email_secrets.api_key", given.api_key);
            let takes_token = match email.provider {
                EmailProvider::Mailgun => true,
                EmailProvider::Ses => {
                    if !token.1.is_empty() && !token.1.contains(':') {
                        fields.refuse(token.0, "must be an access key's id, `:` and its secret");
                    }
                    true
                }
                EmailProvider::Postmark | EmailProvider::Sendgrid => false,
            };
            if !takes_token && !token.1.is_empty() {
                fields.refuse(token.0, "must be empty: it is for Mailgun and SES alone");
            }
            (field, given.signing_key, ("", String::new()), token)
        }
        Settings::Gmail(_) => {
            let given = request.gmail_secrets.unwrap_or_default();
            (
                "gmail_secrets.client_secret",
                given.client_secret,
                ("", String::new()),
                ("gmail_secrets.refresh_token", given.refresh_token),
            )
        }
        Settings::Web(_) => {
            let given = request.web_secrets.unwrap_or_default();
            let none = ("", String::new());
            let field = "web_secrets.identity_secret";
            (field, given.identity_secret, none.clone(), none)
        }
    };
    Secrets {
        app: AppSecrets {
            app_secret: visible(fields, field, signing, SIGNING_SECRET, false),
            previous_app_secret: String::new(),
            verify_token: visible(fields, verify.0, verify.1, 1..=256, false),
        },
        account: AccountSecrets {
            access_token: visible(fields, token.0, token.1, TOKEN, false),
        },
        field,
    }
}

/// Refuses secrets of another kind of account than the one that is connected.
fn refuse_others(
    fields: &mut Fields,
    settings: &Settings,
    request: &pb::ConnectChannelAccountRequest,
) {
    let whatsapp = request.whatsapp_secrets.iter().flat_map(|given| {
        [
            ("whatsapp_secrets.app_secret", &given.app_secret),
            ("whatsapp_secrets.verify_token", &given.verify_token),
            ("whatsapp_secrets.access_token", &given.access_token),
        ]
    });
    let meta = request.meta_secrets.iter().flat_map(|given| {
        [
            ("meta_secrets.app_secret", &given.app_secret),
            ("meta_secrets.verify_token", &given.verify_token),
            ("meta_secrets.access_token", &given.access_token),
        ]
    });
    let twilio = request.twilio_secrets.iter();
    let twilio = twilio.map(|given| ("twilio_secrets.auth_token", &given.auth_token));
    let gateway = request.gateway_secrets.iter().flat_map(|given| {
        [
            ("gateway_secrets.signing_key", &given.signing_key),
            ("gateway_secrets.api_key", &given.api_key),
        ]
    });
    let zendesk = request.zendesk_secrets.iter().flat_map(|given| {
        [
            ("zendesk_secrets.signing_secret", &given.signing_secret),
            ("zendesk_secrets.api_token", &given.api_token),
        ]
    });
    let email = request.email_secrets.iter().flat_map(|given| {
        [
            ("email_secrets.signing_key", &given.signing_key),
            ("email_secrets.api_key", &given.api_key),
        ]
    });
    let gmail = request.gmail_secrets.iter().flat_map(|given| {
        [
            ("gmail_secrets.client_secret", &given.client_secret),
            ("gmail_secrets.refresh_token", &given.refresh_token),
        ]
    });
    let web = request.web_secrets.iter();
    let web = web.map(|given| ("web_secrets.identity_secret", &given.identity_secret));
    let own = match settings {
        Settings::Whatsapp(_) => "whatsapp_secrets.",
        Settings::Messenger(_) | Settings::Instagram(_) => "meta_secrets.",
        Settings::TwilioWhatsapp(_) | Settings::TwilioCall(_) => "twilio_secrets.",
        Settings::PersonalWhatsapp(_) => "gateway_secrets.",
        Settings::Zendesk(_) => "zendesk_secrets.",
        Settings::Email(_) => "email_secrets.",
        Settings::Gmail(_) => "gmail_secrets.",
        Settings::Web(_) => "web_secrets.",
    };
    let given = whatsapp.chain(meta).chain(twilio).chain(gateway);
    let given = given.chain(zendesk).chain(email).chain(gmail);
    for (field, secret) in given.chain(web) {
        if !secret.is_empty() && !field.starts_with(own) {
            fields.refuse(field, "must be empty: it is of another kind of account");
        }
    }
}
