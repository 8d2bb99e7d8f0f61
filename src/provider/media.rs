//! Where the files of customers' messages may be fetched from, by what, and for how long.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, Uri};
use serde_json::{Value, json};

use super::lenient::text;
use crate::guarded_client::{Credentials, HostRule};
use crate::inbox::media::Source;
use crate::tenant::{AccountAccess, ChannelSettings, EmailProvider, Gateway};

/// Where Meta serves files of messages from.
const META: [HostRule; 3] = [
    HostRule::below("fbsbx.com"),
    HostRule::below("fbcdn.net"),
    HostRule::below("cdninstagram.com"),
];
/// Where Twilio redirects to.
const TWILIO: [HostRule; 3] = [
    HostRule::below("twiliocdn.com"),
    HostRule::below("twilio.com"),
    HostRule::exact("s3-external-1.amazonaws.com"),
];
/// Where Zendesk serves files from, beside the account's own host.
const ZENDESK: [HostRule; 3] = [
    HostRule::below("zendesk.com"),
    HostRule::below("zdusercontent.com"),
    HostRule::below("smooch.io"),
];
/// Where Mailgun keeps the files of mail.
const MAILGUN: [HostRule; 2] = [
    HostRule::below("mailgun.net"),
    HostRule::below("mailgun.org"),
];
const DAY: Duration = Duration::from_hours(24);
/// How long files in a delivery are tried: as long as it is sure to be kept.
const INLINE: Duration = DAY;

/// Where the providers' own interfaces are.
#[derive(Debug, Clone)]
pub struct Interfaces {
    /// Meta's Graph API, with its version, without a slash at the end.
    pub meta: String,
    /// Twilio's REST API, without a slash at the end.
    pub twilio: String,
    /// Gmail's API, without a slash at the end.
    pub gmail: String,
    /// Where Google gives access tokens.
    pub google_token: String,
    /// Where Google shows the keys that sign.
    pub google_keys: String,
    /// Where Amazon is asked, in place of its own hosts.
    pub aws: Option<String>,
}

/// What is answered.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// The file.
    File,
    /// JSON that says where the file is.
    Place,
    /// JSON that has the file as base64. It is asked for by a POST of this JSON.
    Wrapped(Bytes),
}

/// How a file is fetched.
#[derive(Debug)]
pub struct Way {
    /// What is asked first.
    pub url: String,
    /// What is answered.
    pub answer: Answer,
    /// Where it, and what it redirects to, may be.
    pub hosts: Vec<HostRule>,
    /// What is shown to the first host.
    pub credentials: Option<Credentials>,
}

impl Way {
    /// The way to a file; `None` if there is none, since the account cannot have such files.
    pub fn to(source: &Source, access: &AccountAccess, interfaces: &Interfaces) -> Option<Self> {
        match (&access.settings, source) {
            (ChannelSettings::Whatsapp(settings), Source::Media(media)) => {
                let (api, number) = (&interfaces.meta, &settings.phone_number_id);
                let media = segment(media)?;
                Some(Self {
                    url: format!("{api}/{media}?phone_number_id={number}"),
                    answer: Answer::Place,
                    hosts: with(&META, api),
                    credentials: bearer(&access.access_token),
                })
            }
            (ChannelSettings::Messenger(_) | ChannelSettings::Instagram(_), Source::Url(url)) => {
                // Its address is all that it needs.
                Some(Self::plain(url, with(&META, &interfaces.meta), None))
            }
            (ChannelSettings::TwilioWhatsapp(settings), Source::Url(url)) => {
                Some(twilio(url, &settings.account_sid, access, interfaces))
            }
            (ChannelSettings::TwilioCall(settings), Source::Url(url)) => {
                Some(twilio(url, &settings.account_sid, access, interfaces))
            }
            (ChannelSettings::PersonalWhatsapp(settings), Source::Url(url)) => {
                // Only the gateway itself: whatever else it names, strangers may have chosen.
                let key = gateway_key(settings.gateway, &access.access_token);
                Some(Self::plain(url, with(&[], &settings.base_url), key))
            }
            (ChannelSettings::PersonalWhatsapp(settings), Source::Media(message))
                if settings.gateway == Gateway::Evolution =>
            {
                let (api, session) = (&settings.base_url, &settings.session);
                let question = json!({"message": {"key": {"id": message}}, "convertToMp4": false});
                Some(Self {
                    url: format!("{api}/chat/getBase64FromMediaMessage/{session}"),
                    answer: Answer::Wrapped(question.to_string().into()),
                    hosts: with(&[], api),
                    credentials: gateway_key(settings.gateway, &access.access_token),
                })
            }
            (ChannelSettings::Zendesk(settings), Source::Url(url)) => {
                let own = format!("{}.zendesk.com", settings.subdomain);
                let is_own = host(url).is_some_and(|host| host == own);
                let token = zendesk(&access.access_token).filter(|_| is_own);
                Some(Self::plain(url, ZENDESK.to_vec(), token))
            }
            (ChannelSettings::Email(settings), Source::Url(url))
                if settings.provider == EmailProvider::Mailgun =>
            {
                // The key is for its own hosts, and there is nobody else to ask.
                let key = (!access.access_token.is_empty()).then(|| Credentials::Basic {
                    user: "api".to_owned(),
                    password: access.access_token.clone(),
                });
                Some(Self::plain(url, MAILGUN.to_vec(), key))
            }
            _ => None,
        }
    }

    fn plain(url: &str, hosts: Vec<HostRule>, credentials: Option<Credentials>) -> Self {
        Self {
            url: url.to_owned(),
            answer: Answer::File,
            hosts,
            credentials,
        }
    }

    /// The way on, from where a look-up said that the file is; and the SHA-256 of it, if that was
    /// said. `None` if nothing was.
    pub fn onwards(self, answer: &[u8]) -> Option<(Self, Option<String>)> {
        let answer: Value = serde_json::from_slice(answer).ok()?;
        let url = text(&answer, "/url");
        let sha256 = text(&answer, "/sha256").to_ascii_lowercase();
        let is_hash = sha256.len() == 64 && sha256.bytes().all(|digit| digit.is_ascii_hexdigit());
        let way = Self {
            url,
            answer: Answer::File,
            ..self
        };
        (!way.url.is_empty()).then_some((way, is_hash.then_some(sha256)))
    }
}

/// How long a file is tried after the provider told of it.
pub fn lifetime(source: &Source, settings: &ChannelSettings) -> Duration {
    match (source, settings) {
        (Source::Inline { .. }, _) => INLINE,
        // A gateway keeps files for minutes, and may be told to keep them longer.
        (_, ChannelSettings::PersonalWhatsapp(_)) => DAY,
        (
            _,
            ChannelSettings::Messenger(_)
            | ChannelSettings::Instagram(_)
            | ChannelSettings::Email(_),
        ) => 3 * DAY,
        _ => 7 * DAY,
    }
}

fn twilio(url: &str, account_sid: &str, access: &AccountAccess, interfaces: &Interfaces) -> Way {
    let is_api = host(url) == host(&interfaces.twilio);
    let credentials = is_api.then(|| Credentials::Basic {
        user: account_sid.to_owned(),
        password: access.app_secret.clone(),
    });
    Way::plain(url, with(&TWILIO, &interfaces.twilio), credentials)
}

/// The key of a gateway.
pub(super) fn gateway_key(gateway: Gateway, key: &str) -> Option<Credentials> {
    let header = match gateway {
        Gateway::Waha => "x-api-key",
        Gateway::Evolution => "apikey",
    };
    let header = HeaderName::from_static(header);
    (!key.is_empty()).then(|| Credentials::Header(header, key.to_owned()))
}

/// An OAuth token, or the user and the password of a key.
pub(super) fn zendesk(token: &str) -> Option<Credentials> {
    match token.split_once(':') {
        Some((user, password)) => Some(Credentials::Basic {
            user: user.to_owned(),
            password: password.to_owned(),
        }),
        None => bearer(token),
    }
}

pub(super) fn bearer(token: &str) -> Option<Credentials> {
    (!token.is_empty()).then(|| Credentials::Bearer(token.to_owned()))
}

fn with(rules: &[HostRule], url: &str) -> Vec<HostRule> {
    rules.iter().cloned().chain(HostRule::of(url)).collect()
}

fn host(url: &str) -> Option<String> {
    let url: Uri = url.parse().ok()?;
    url.host().map(str::to_ascii_lowercase)
}

/// What may be one segment of a path.
fn segment(id: &str) -> Option<&str> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    (!id.is_empty() && id.bytes().all(is_plain)).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tenant::{PersonalWhatsappSettings, TwilioWhatsappSettings, WhatsappSettings};

    fn interfaces() -> Interfaces {
        Interfaces {
            meta: "https://graph.facebook.com/v23.0".to_owned(),
            twilio: "https://api.twilio.com".to_owned(),
            gmail: "https://gmail.googleapis.com".to_owned(),
            google_token: String::new(),
            google_keys: String::new(),
            aws: None,
        }
    }

    fn way(settings: ChannelSettings, source: Source) -> Option<Way> {
        let access = AccountAccess {
            tenant_id: crate::ids::TenantId::new(),
            settings,
            access_token: "token".to_owned(),
            app_secret: "secret".to_owned(),
        };
        Way::to(&source, &access, &interfaces())
    }

    fn url(text: &str) -> Source {
        Source::Url(text.to_owned())
    }

    #[test]
    fn whatsapp_files_are_looked_up_first() {
        let settings = || {
            ChannelSettings::Whatsapp(WhatsappSettings {
                phone_number_id: "17".to_owned(),
                app_id: "1".to_owned(),
                own_app: true,
                business_account_id: String::new(),
                display_phone_number: String::new(),
            })
        };
        let way_to = |id: &str| way(settings(), Source::Media(id.to_owned()));
        let way = way_to("4490").unwrap();
        assert_eq!(
            way.url,
            "https://graph.facebook.com/v23.0/4490?phone_number_id=17"
        );
        assert!(way.answer == Answer::Place && way.credentials.is_some());
        assert!(way_to("../me").is_none());
        let hash = "AB".repeat(32);
        let answer = format!(r#"{{"url":"https://lookaside.fbsbx.com/x","sha256":"{hash}"}}"#);
        let (way, sha256) = way.onwards(answer.as_bytes()).unwrap();
        assert!(way.answer == Answer::File && way.credentials.is_some());
        assert_eq!(way.url, "https://lookaside.fbsbx.com/x");
        assert_eq!(sha256.unwrap(), hash.to_lowercase());
        assert!(way.onwards(b"{}").is_none());
    }

    #[test]
    fn credentials_are_for_the_providers_own_host_alone() {
        let twilio = |to: &str| {
            let settings = ChannelSettings::TwilioWhatsapp(TwilioWhatsappSettings {
                account_sid: "AC1".to_owned(),
                phone_number: "+1".to_owned(),
                own_app: true,
            });
            way(settings, url(to)).unwrap()
        };
        assert!(twilio("https://api.twilio.com/x").credentials.is_some());
        for other in ["https://mms.twiliocdn.com/x", "https://evil.example/x", "x"] {
            assert!(twilio(other).credentials.is_none(), "{other}");
        }
        let waha = ChannelSettings::PersonalWhatsapp(PersonalWhatsappSettings {
            gateway: Gateway::Waha,
            base_url: "http://waha:3000".to_owned(),
            session: "default".to_owned(),
        });
        let way = way(waha, url("https://evil.example/x")).unwrap();
        assert_eq!(way.hosts, [HostRule::exact("waha")]);
    }
}
