//! Sessions of visitors, and the ids that their browsers keep: sealed, and kept nowhere.

use std::time::Duration;

use aws_lc_rs::aead::Aad;
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use chrono::{DateTime, SecondsFormat};
use serde::{Deserialize, Serialize};

use crate::clock;
use crate::error::Error;
use crate::hex;
use crate::ids::{ChannelAccountId, TenantId};
use crate::inbox::visitor::Visitor;
use crate::master_key::{MasterKey, MasterKeyError, Sealer};

/// Longer than any token of ours.
const MOST_CHARACTERS: usize = 4096;
/// How many random bytes an id of a visitor has.
const RANDOM_BYTES: usize = 16;
/// Begins an id of a visitor.
const VISITOR: &str = "vst_";
/// What sessions are sealed for.
const SESSION: &str = "widget session 1";

/// What a session is bound to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// The tenant.
    #[serde(rename = "t")]
    pub tenant_id: TenantId,
    /// The widget's account.
    #[serde(rename = "a")]
    pub account: ChannelAccountId,
    /// What the widget calls itself by.
    #[serde(rename = "w")]
    pub widget_token: String,
    /// The origin of the page; none of an app.
    #[serde(rename = "o")]
    pub origin: Option<String>,
    /// The id that the browser keeps.
    #[serde(rename = "v")]
    pub visitor_id: String,
    /// The page's user, if that is proved.
    #[serde(rename = "u")]
    pub user_id: Option<String>,
    /// When it ends, in seconds since 1970.
    #[serde(rename = "e")]
    expires_at: u64,
}

impl Session {
    /// Tells whether it still lasts.
    pub fn lasts(&self) -> bool {
        clock::since_epoch().as_secs() < self.expires_at
    }

    /// When it ends, in seconds since 1970.
    pub fn ends(&self) -> u64 {
        self.expires_at
    }

    /// When it ends, as RFC 3339 says.
    pub fn expires_at(&self) -> String {
        rfc3339(self.expires_at)
    }

    /// Whose it is.
    pub fn visitor(&self) -> Visitor {
        Visitor {
            account: self.account,
            id: self.visitor_id.clone(),
            user_id: self.user_id.clone(),
        }
    }

    /// What stands for the visitor in limits.
    pub fn key(&self) -> u128 {
        let trace = self.trace();
        let bytes = trace.first_chunk().copied().unwrap_or_default();
        u128::from_be_bytes(bytes)
    }

    /// What stands for something of the visitor's, where their id must not be left behind when they
    /// are erased: it tells nothing of them to who does not know the id.
    pub fn trace_of(&self, thing: &[u8]) -> String {
        let parts = [self.trace().as_slice(), thing].concat();
        hex::digits(digest(&SHA256, &parts).as_ref())
    }

    fn trace(&self) -> Vec<u8> {
        let parts = [self.account.0.as_bytes(), self.visitor_id.as_bytes()].concat();
        digest(&SHA256, &parts).as_ref().to_vec()
    }
}

fn rfc3339(seconds: u64) -> String {
    let at = i64::try_from(seconds).ok();
    let at = at.and_then(|seconds| DateTime::from_timestamp(seconds, 0));
    at.unwrap_or_default()
        .to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// Makes and opens sessions.
pub struct Sessions {
    sessions: Sealer,
    visitors: Sealer,
    lifetime: Duration,
}

impl Sessions {
    /// Seals under a master key; a session lasts for so long.
    ///
    /// # Errors
    /// The library refused.
    pub fn new(key: &MasterKey, lifetime: Duration) -> Result<Self, MasterKeyError> {
        Ok(Self {
            sessions: key.sealer("widget sessions")?,
            visitors: key.sealer("widget visitors")?,
            lifetime,
        })
    }

    /// Lets a session last from now on; returns its token, and when it should be refreshed.
    pub fn begin(&self, session: &mut Session) -> Result<(String, String), Error> {
        let now = clock::since_epoch().as_secs();
        let lifetime = self.lifetime.as_secs();
        session.expires_at = now + lifetime;
        let plain = serde_json::to_vec(session).map_err(Error::internal)?;
        let sealed = self.sessions.seal(Aad::from(SESSION), plain)?;
        let token = BASE64_URL_SAFE_NO_PAD.encode(sealed);
        // With a third of its time left.
        Ok((token, rfc3339(now + lifetime - lifetime / 3)))
    }

    /// Opens a token, of a session that may be over; `None` for anything else.
    pub fn open(&self, token: &str) -> Option<Session> {
        if token.len() > MOST_CHARACTERS {
            return None;
        }
        let sealed = BASE64_URL_SAFE_NO_PAD.decode(token).ok()?;
        let plain = self.sessions.open(Aad::from(SESSION), &sealed)?;
        serde_json::from_slice(&plain).ok()
    }

    /// Makes a session that has not begun.
    pub fn new_session(
        &self,
        (tenant_id, account): (TenantId, ChannelAccountId),
        widget_token: &str,
        origin: Option<&str>,
        visitor_id: String,
    ) -> Session {
        Session {
            tenant_id,
            account,
            widget_token: widget_token.to_owned(),
            origin: origin.map(str::to_owned),
            visitor_id,
            user_id: None,
            expires_at: 0,
        }
    }

    /// Makes the id of a new visitor: random, and sealed, so that no page can make up ids that
    /// others can guess.
    pub fn new_visitor(&self, account: ChannelAccountId) -> Result<String, Error> {
        let mut random = vec![0; RANDOM_BYTES];
        rand::fill(&mut random).map_err(|_| Error::internal("there are no random bytes"))?;
        let sealed = self
            .visitors
            .seal(Aad::from(account.0.as_bytes()), random)?;
        Ok(format!(
            "{VISITOR}{}",
            BASE64_URL_SAFE_NO_PAD.encode(sealed)
        ))
    }

    /// Tells whether an id is one that was made for an account.
    pub fn is_visitor(&self, account: ChannelAccountId, id: &str) -> bool {
        let sealed = id
            .strip_prefix(VISITOR)
            .filter(|sealed| sealed.len() < MOST_CHARACTERS)
            .and_then(|sealed| BASE64_URL_SAFE_NO_PAD.decode(sealed).ok());
        sealed.is_some_and(|sealed| {
            let place = Aad::from(account.0.as_bytes());
            self.visitors.open(place, &sealed).is_some()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sessions() -> Sessions {
        let folder = std::env::temp_dir().join(format!("widget-{}", uuid::Uuid::now_v7()));
        let key = MasterKey::read_or_make(&folder).unwrap();
        std::fs::remove_file(folder).unwrap();
        Sessions::new(&key, Duration::from_secs(900)).unwrap()
    }

    fn session(sessions: &Sessions) -> Session {
        let whose = (TenantId::new(), ChannelAccountId::new());
        let origin = Some("https://shop.example");
        let visitor = sessions.new_visitor(whose.1).unwrap();
        sessions.new_session(whose, "wgt_1", origin, visitor)
    }

    #[test]
    fn a_session_is_what_it_was_made_of_and_nobody_elses() {
        let ours = sessions();
        let mut session = session(&ours);
        session.user_id = Some("crm-42".to_owned());
        assert!(!session.lasts());
        let (token, refresh_after) = ours.begin(&mut session).unwrap();
        assert!(session.lasts());
        assert!(refresh_after < session.expires_at());
        assert_eq!(ours.open(&token), Some(session));
        assert!(!token.contains("crm"));
        assert_eq!(sessions().open(&token), None);
        assert_eq!(ours.open(&token[1..]), None);
        assert_eq!(ours.open(&format!("{token}A")), None);
        assert_eq!(ours.open(""), None);
    }

    #[test]
    fn the_id_of_a_visitor_is_of_one_account_and_of_our_making() {
        let ours = sessions();
        let account = ChannelAccountId::new();
        let id = ours.new_visitor(account).unwrap();
        assert_ne!(ours.new_visitor(account).unwrap(), id);
        assert!(ours.is_visitor(account, &id));
        assert!(!ours.is_visitor(ChannelAccountId::new(), &id));
        assert!(!sessions().is_visitor(account, &id));
        for made_up in ["", "vst_", "vst_01JD0000000000000000000001", &id[4..]] {
            assert!(!ours.is_visitor(account, made_up), "{made_up}");
        }
    }

    #[test]
    fn traces_tell_visitors_and_things_apart() {
        let ours = sessions();
        let (one, other) = (session(&ours), session(&ours));
        assert_eq!(one.trace_of(b"a"), one.trace_of(b"a"));
        assert_ne!(one.trace_of(b"a"), one.trace_of(b"b"));
        assert_ne!(one.trace_of(b"a"), other.trace_of(b"a"));
        assert!(!one.trace_of(b"a").contains(&one.visitor_id));
    }
}
