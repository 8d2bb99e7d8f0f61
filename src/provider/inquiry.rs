//! How a provider is asked whether it takes what an account was given, and what its answer means.
//! Nothing that is asked changes anything.

use http::StatusCode;
use serde_json::Value;

use super::lenient::{cut, text};
use super::media::{Interfaces, bearer, gateway_key, zendesk};
use crate::guarded_client::{Credentials, HostRule};
use crate::tenant::{AccountAccess, ChannelSettings, Gateway};

/// The most bytes of an answer.
pub const MAX_ANSWER_BYTES: u64 = 256 * 1024;
/// The most bytes that are told of what a provider says.
const MAX_WORDS: usize = 200;
/// Meta's codes that pass: its servers, too many calls, for now.
const META_PASSING: [i64; 7] = [1, 2, 4, 17, 32, 613, 80_007];
/// Meta's code for a token that is none, or not any more.
const META_TOKEN: i64 = 190;
const NEW_TOKEN: &str = "give another one by `UpdateChannelAccount`";

/// A question.
#[derive(Debug)]
pub struct Inquiry {
    /// What is asked.
    pub url: String,
    /// Where it may be.
    pub hosts: Vec<HostRule>,
    /// What is shown.
    pub credentials: Option<Credentials>,
}

/// What was found out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// All is as it should be.
    Passed(String),
    /// It is not, and this is what to do.
    Failed(String),
    /// It cannot be told.
    Unknown(String),
}

impl Inquiry {
    /// The question for an account.
    ///
    /// # Errors
    /// There is nothing to ask by: either nothing ever is for accounts of this kind, or this one was
    /// not given it.
    pub fn of(access: &AccountAccess, interfaces: &Interfaces) -> Result<Self, Finding> {
        let missing = |what: &str| {
            let words = format!("the account has no {what}: {NEW_TOKEN}");
            Err(Finding::Failed(words))
        };
        let token = &access.access_token;
        let meta = |id: &str, fields: &str| match bearer(token) {
            None => missing("access token, by which files are fetched and messages sent"),
            credentials => Ok(Self {
                url: format!("{}/{id}?fields={fields}", interfaces.meta),
                hosts: HostRule::of(&interfaces.meta).into_iter().collect(),
                credentials,
            }),
        };
        let twilio = |account_sid: &str| {
            let api = &interfaces.twilio;
            Ok(Self {
                url: format!("{api}/2010-04-01/Accounts/{account_sid}.json"),
                hosts: HostRule::of(api).into_iter().collect(),
                credentials: Some(Credentials::Basic {
                    user: account_sid.to_owned(),
                    password: access.app_secret.clone(),
                }),
            })
        };
        match &access.settings {
            ChannelSettings::Whatsapp(of) => meta(
                &of.phone_number_id,
                "display_phone_number,verified_name,quality_rating",
            ),
            ChannelSettings::Messenger(of) => meta(&of.page_id, "name"),
            ChannelSettings::Instagram(of) => meta(&of.instagram_account_id, "username"),
            ChannelSettings::TwilioWhatsapp(of) => twilio(&of.account_sid),
            ChannelSettings::TwilioCall(of) => twilio(&of.account_sid),
            ChannelSettings::PersonalWhatsapp(of) => {
                let path = match of.gateway {
                    Gateway::Waha => "api/sessions",
                    Gateway::Evolution => "instance/connectionState",
                };
                Ok(Self {
                    url: format!("{}/{path}/{}", of.base_url, of.session),
                    hosts: HostRule::of(&of.base_url).into_iter().collect(),
                    credentials: gateway_key(of.gateway, token),
                })
            }
            ChannelSettings::Zendesk(of) => match zendesk(token) {
                None => missing("API token, by which files are fetched"),
                credentials => {
                    let host = format!("{}.zendesk.com", of.subdomain);
                    Ok(Self {
                        url: format!("https://{host}/api/v2/users/me.json"),
                        hosts: vec![HostRule::Exact(host.into())],
                        credentials,
                    })
                }
            },
            ChannelSettings::Email(_) | ChannelSettings::Web(_) | ChannelSettings::Gmail(_) => {
                let words = "nothing is asked of a provider for accounts of this kind";
                Err(Finding::Unknown(words.to_owned()))
            }
        }
    }
}

/// What an answer means, and in what state the provider says the account is, if it says so.
pub fn read(
    settings: &ChannelSettings,
    status: StatusCode,
    body: &[u8],
) -> (Finding, Option<String>) {
    let answer: Value = serde_json::from_slice(body).unwrap_or_default();
    if status != StatusCode::OK {
        return (refused(settings, status, &answer), None);
    }
    let said = |path: &str| {
        let mut said = text(&answer, path);
        cut(&mut said, MAX_WORDS);
        said
    };
    let passed = |words: String| (Finding::Passed(words), None);
    match settings {
        ChannelSettings::Whatsapp(_) => {
            let (number, name) = (said("/display_phone_number"), said("/verified_name"));
            let quality = said("/quality_rating");
            passed(format!(
                "the token reaches {number}, `{name}`, of quality `{quality}`"
            ))
        }
        ChannelSettings::Messenger(_) => {
            passed(format!("the token reaches the page `{}`", said("/name")))
        }
        ChannelSettings::Instagram(_) => {
            let name = said("/username");
            passed(format!("the token reaches the account `{name}`"))
        }
        ChannelSettings::TwilioWhatsapp(_) | ChannelSettings::TwilioCall(_) => {
            match said("/status").as_str() {
                "active" => passed("Twilio takes the auth token".to_owned()),
                state => {
                    let words = format!("Twilio says that its account is `{state}`");
                    (Finding::Failed(words), None)
                }
            }
        }
        ChannelSettings::PersonalWhatsapp(of) => {
            let (state, works) = match of.gateway {
                Gateway::Waha => (said("/status"), "WORKING"),
                Gateway::Evolution => (said("/instance/state"), "open"),
            };
            let finding = if state == works {
                Finding::Passed(format!("the gateway says `{state}`"))
            } else {
                let words = format!("the gateway says `{state}`: pair the number again there");
                Finding::Failed(words)
            };
            (finding, (!state.is_empty()).then_some(state))
        }
        // To who shows nothing that it takes, it says that they are nobody.
        ChannelSettings::Zendesk(_) => match answer.pointer("/user/id").and_then(Value::as_i64) {
            Some(_) => {
                let role = said("/user/role");
                passed(format!(
                    "Zendesk takes the token, of somebody who is `{role}`"
                ))
            }
            None => {
                let words = format!("Zendesk does not take the token: {NEW_TOKEN}");
                (Finding::Failed(words), None)
            }
        },
        ChannelSettings::Email(_) | ChannelSettings::Web(_) | ChannelSettings::Gmail(_) => {
            (Finding::Unknown("nothing was asked".to_owned()), None)
        }
    }
}

/// Whether who is let in has to have the very account. Elsewhere a token of another one, or of
/// anybody, would do as well.
pub fn proves(settings: &ChannelSettings) -> bool {
    matches!(
        settings,
        ChannelSettings::Whatsapp(_)
            | ChannelSettings::TwilioWhatsapp(_)
            | ChannelSettings::TwilioCall(_)
            | ChannelSettings::Gmail(_)
    )
}

fn refused(settings: &ChannelSettings, status: StatusCode, answer: &Value) -> Finding {
    let is_meta = matches!(
        settings,
        ChannelSettings::Whatsapp(_)
            | ChannelSettings::Messenger(_)
            | ChannelSettings::Instagram(_)
    );
    let code = answer.pointer("/error/code").and_then(Value::as_i64);
    match (status.as_u16(), code.filter(|_| is_meta)) {
        (_, Some(code)) if META_PASSING.contains(&code) => Finding::Unknown(format!(
            "Meta answers {status}, code {code}: try again later"
        )),
        (429 | 500.., _) => {
            Finding::Unknown(format!("the provider answers {status}: try again later"))
        }
        (_, Some(META_TOKEN)) => {
            Finding::Failed(format!("Meta does not take the access token: {NEW_TOKEN}"))
        }
        (_, Some(code)) => Finding::Failed(format!(
            "the access token does not reach this account, Meta says with code {code}: give it the account, or {NEW_TOKEN}"
        )),
        (401 | 403, None) => Finding::Failed(format!(
            "the provider answers {status} to what the account was given: {NEW_TOKEN}"
        )),
        (404, None) => Finding::Failed("the provider has no such account".to_owned()),
        (_, None) => Finding::Unknown(format!("the provider answers {status}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::TenantId;
    use crate::tenant::{PersonalWhatsappSettings, TwilioWhatsappSettings, WhatsappSettings};

    fn whatsapp() -> ChannelSettings {
        ChannelSettings::Whatsapp(WhatsappSettings {
            phone_number_id: "418203377100456".to_owned(),
            app_id: "1".to_owned(),
            own_app: false,
            business_account_id: String::new(),
            display_phone_number: String::new(),
        })
    }

    fn twilio() -> ChannelSettings {
        ChannelSettings::TwilioWhatsapp(TwilioWhatsappSettings {
            account_sid: "AC0123".to_owned(),
            phone_number: "+15550001001".to_owned(),
            own_app: false,
        })
    }

    fn gateway(gateway: Gateway) -> ChannelSettings {
        ChannelSettings::PersonalWhatsapp(PersonalWhatsappSettings {
            gateway,
            base_url: "https://waha.example".to_owned(),
            session: "desk".to_owned(),
        })
    }

    fn ask(settings: ChannelSettings, token: &str) -> Result<Inquiry, Finding> {
        let access = AccountAccess {
            tenant_id: TenantId::new(),
            settings,
            access_token: token.to_owned(),
            app_secret: "auth-token".to_owned(),
        };
        let interfaces = Interfaces {
            meta: "https://graph.facebook.com/v23.0".to_owned(),
            twilio: "https://api.twilio.com".to_owned(),
            gmail: String::new(),
            google_token: String::new(),
            google_keys: String::new(),
            aws: None,
        };
        Inquiry::of(&access, &interfaces)
    }

    fn verdict(settings: &ChannelSettings, status: u16, body: &str) -> &'static str {
        let status = StatusCode::from_u16(status).unwrap();
        match read(settings, status, body.as_bytes()).0 {
            Finding::Passed(_) => "passed",
            Finding::Failed(_) => "failed",
            Finding::Unknown(_) => "unknown",
        }
    }

    #[test]
    fn each_provider_is_asked_in_its_own_way() {
        let asked = ask(whatsapp(), "token").unwrap();
        assert_eq!(
            asked.url,
            "https://graph.facebook.com/v23.0/418203377100456?fields=display_phone_number,verified_name,quality_rating"
        );
        let asked = ask(twilio(), "").unwrap();
        assert_eq!(
            asked.url,
            "https://api.twilio.com/2010-04-01/Accounts/AC0123.json"
        );
        assert!(asked.credentials.is_some());
        let asked = ask(gateway(Gateway::Waha), "key").unwrap();
        assert_eq!(asked.url, "https://waha.example/api/sessions/desk");
        let asked = ask(gateway(Gateway::Evolution), "key").unwrap();
        assert_eq!(
            asked.url,
            "https://waha.example/instance/connectionState/desk"
        );
        assert!(matches!(ask(whatsapp(), ""), Err(Finding::Failed(_))));
    }

    #[test]
    fn an_answer_tells_what_to_do_or_that_nothing_is_known() {
        let (whatsapp, twilio) = (whatsapp(), twilio());
        for (settings, status, body, expected) in [
            (
                &whatsapp,
                200,
                r#"{"display_phone_number":"+1 555","id":"4"}"#,
                "passed",
            ),
            (&whatsapp, 401, r#"{"error":{"code":190}}"#, "failed"),
            (&whatsapp, 400, r#"{"error":{"code":100}}"#, "failed"),
            (&whatsapp, 400, r#"{"error":{"code":4}}"#, "unknown"),
            (&whatsapp, 500, r#"{"error":{"code":1}}"#, "unknown"),
            (&whatsapp, 503, "", "unknown"),
            (&whatsapp, 302, "", "unknown"),
            (&twilio, 200, r#"{"status":"active"}"#, "passed"),
            (&twilio, 200, r#"{"status":"suspended"}"#, "failed"),
            (&twilio, 401, r#"{"code":20003}"#, "failed"),
            (&twilio, 429, r#"{"code":20429}"#, "unknown"),
        ] {
            assert_eq!(verdict(settings, status, body), expected, "{status} {body}");
        }
        let waha = gateway(Gateway::Waha);
        let answer = br#"{"name":"desk","status":"SCAN_QR_CODE"}"#;
        let (finding, state) = read(&waha, StatusCode::OK, answer);
        assert!(matches!(finding, Finding::Failed(_)));
        assert_eq!(state.as_deref(), Some("SCAN_QR_CODE"));
        let evolution = gateway(Gateway::Evolution);
        assert_eq!(
            verdict(&evolution, 200, r#"{"instance":{"state":"open"}}"#),
            "passed"
        );
        assert_eq!(verdict(&evolution, 404, ""), "failed");
        assert_eq!(verdict(&waha, 200, "["), "failed");
    }
}
