//! Checks bearer tokens: JWTs of asymmetric keys, of a keyring.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aws_lc_rs::digest::{SHA256, digest};
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use quick_cache::sync::Cache;
use serde::{Deserialize, Serialize};

use super::caller::{Actor, Caller, Scopes, Tenants};
use super::keyring::Keyring;
use crate::clock;
use crate::error::Error;

/// How many verified tokens are remembered.
const REMEMBERED: usize = 10_000;
/// How far clocks may be apart, in seconds.
const LEEWAY: u64 = 30;
/// Longer than any token that is meant well.
const MAX_TOKEN_BYTES: usize = 8 * 1024;

/// What a token may say that it is.
const TYPES: [&str; 3] = ["JWT", "at+jwt", "application/at+jwt"];
/// The algorithms that a token may be signed with: none whose key could also sign.
const ALGORITHMS: &[Algorithm] = &[
    Algorithm::EdDSA,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
];

/// What a token says.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TokenClaims {
    /// Who issued it.
    pub iss: String,
    /// The service that it was issued to.
    pub sub: String,
    /// Whom it is for: this service.
    pub aud: Audience,
    /// When it ends, in seconds since 1970.
    pub exp: u64,
    /// When it begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nbf: Option<u64>,
    /// The scopes, separated by spaces.
    #[serde(default)]
    pub scope: String,
    /// The slugs of the tenants that it is for; `*` for all.
    #[serde(default)]
    pub tenants: Vec<String>,
    /// The user, of a user's own token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
}

/// Whom a token is for: one, or several.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Audience {
    /// One.
    One(String),
    /// Several, of whom we have to be one.
    Several(Vec<String>),
}

/// Returns the credential of a request, if it has one.
///
/// # Errors
/// It has two: which one counts would be up to the reader.
pub fn sole_credential(headers: &HeaderMap) -> Result<Option<&[u8]>, Error> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let credential = values.next().map(HeaderValue::as_bytes);
    match values.next() {
        None => Ok(credential),
        Some(_) => Err(Error::Unauthenticated),
    }
}

/// Knows who a token belongs to.
pub struct Authenticator {
    /// A key that never changes.
    own: Option<(String, DecodingKey)>,
    keyring: Option<Keyring>,
    issuer: String,
    audience: String,
    /// By digest, so that a dump of memory has no tokens in it.
    verified: Cache<[u8; 32], Verified>,
    /// How often the keys have changed: what was verified by others than those of now is not
    /// believed.
    changes: AtomicU64,
    anonymous: Option<Arc<Caller>>,
}

#[derive(Clone)]
struct Verified {
    caller: Arc<Caller>,
    changes: u64,
}

impl Authenticator {
    /// Knows no keys yet. `anonymous` is who calls without a credential, if anybody may.
    pub fn new(issuer: &str, audience: &str, anonymous: Option<Caller>) -> Self {
        Self {
            own: None,
            keyring: None,
            issuer: issuer.to_owned(),
            audience: audience.to_owned(),
            verified: Cache::new(REMEMBERED),
            changes: AtomicU64::new(0),
            anonymous: anonymous.map(Arc::new),
        }
    }

    /// Trusts one key.
    pub fn trust(&mut self, kid: String, key: DecodingKey) {
        self.own = Some((kid, key));
    }

    /// Trusts the keys of a keyring, as they are at any time.
    pub fn trust_keyring(&mut self, keyring: Keyring) {
        self.keyring = Some(keyring);
    }

    /// Keeps the keyring as its source has it, for ever.
    pub async fn follow(&self) {
        if let Some(keyring) = &self.keyring {
            keyring.follow(|| self.keys_changed()).await;
        }
    }

    /// How often the keys have changed.
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// Returns the key that a refused token names, if nobody here knows it, or it may have become
    /// known only after the token was refused: the keys have changed since `changes`.
    pub fn unknown_key(&self, authorization: Option<&[u8]>, changes: u64) -> Option<String> {
        let keyring = self.keyring.as_ref()?;
        let kid = decode_header(bearer(authorization?)?).ok()?.kid?;
        (!keyring.keys().contains_key(&kid) || self.changes() != changes).then_some(kid)
    }

    /// Asks for a key that is not known, unless that was done a short time ago.
    pub async fn learn(&self, kid: &str) {
        if let Some(keyring) = &self.keyring {
            keyring.learn(kid, || self.keys_changed()).await;
        }
    }

    /// Returns who sends a request with this `authorization` value.
    ///
    /// # Errors
    /// There is no credential and one is needed, or it is not valid. Why is not told.
    pub fn authenticate(&self, authorization: Option<&[u8]>) -> Result<Arc<Caller>, Error> {
        let Some(value) = authorization else {
            return self.anonymous.clone().ok_or(Error::Unauthenticated);
        };
        let token = bearer(value).ok_or(Error::Unauthenticated)?;
        let mut key = [0; 32];
        key.copy_from_slice(digest(&SHA256, token).as_ref());
        let now = clock::since_epoch().as_secs();
        // Before the keys are looked at, so that a change meanwhile is noticed.
        let changes = self.changes();
        if let Some(verified) = self.verified.get(&key)
            && !verified.caller.has_ended(now)
            && verified.changes == changes
        {
            return Ok(verified.caller);
        }
        let verified = self.verify(token, changes).ok_or(Error::Unauthenticated)?;
        self.verified.insert(key, verified.clone());
        Ok(verified.caller)
    }

    fn keys_changed(&self) {
        self.changes.fetch_add(1, Ordering::Release);
        self.verified.clear();
    }

    fn verify(&self, token: &[u8], changes: u64) -> Option<Verified> {
        let header = decode_header(token).ok()?;
        let is_token = header
            .typ
            .as_deref()
            .is_none_or(|typ| TYPES.iter().any(|known| typ.eq_ignore_ascii_case(known)));
        // What `crit` names has to be understood, and we understand nothing of the kind.
        if !ALGORITHMS.contains(&header.alg) || !is_token || header.crit.is_some() {
            return None;
        }
        let kid = header.kid.as_deref().unwrap_or_default();
        let keys = self.keyring.as_ref().map(Keyring::keys);
        let own = self.own.as_ref().filter(|(own, _)| own == kid);
        let known = keys.as_ref().and_then(|keys| keys.get(kid));
        let key = match own {
            Some((_, key)) => key,
            None => &known?.key,
        };
        let holds = known.filter(|_| own.is_none());
        let mut validation = Validation::new(header.alg);
        validation.leeway = LEEWAY;
        validation.validate_nbf = true;
        validation.set_issuer(&[&self.issuer]);
        validation.set_audience(&[&self.audience]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        let claims = decode::<TokenClaims>(token, key, &validation).ok()?.claims;
        // Both are recorded with what they do.
        let may_be_called = |id: &String| Actor::may_be_called(id);
        if !may_be_called(&claims.sub) || !claims.user_id.as_ref().is_none_or(may_be_called) {
            return None;
        }
        let tenants = if claims.tenants.iter().any(|slug| slug == "*") {
            Tenants::All
        } else {
            Tenants::Named(claims.tenants.into_iter().collect::<BTreeSet<_>>())
        };
        let caller = Caller {
            service: claims.sub,
            user_id: claims.user_id,
            scopes: Scopes::from_words(&claims.scope),
            tenants,
            expires: Some(claims.exp.saturating_add(LEEWAY)),
            key_holds: holds.map(|known| known.holds.clone()),
        };
        Some(Verified {
            caller: Arc::new(caller),
            changes,
        })
    }
}

/// The token of an `authorization` value.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    value
        .split_at_checked(7)
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case(b"bearer "))
        .map(|(_, token)| token)
        .filter(|token| token.len() <= MAX_TOKEN_BYTES)
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::prelude::BASE64_URL_SAFE_NO_PAD;

    use super::super::keyring;
    use super::*;

    #[tokio::test]
    async fn a_key_that_became_known_since_is_worth_another_try() {
        let mut authenticator = Authenticator::new("issuer", "audience", None);
        authenticator.trust_keyring(keyring::tests::opened().await);
        let credential = |kid: &str| {
            let header = format!(r#"{{"alg":"EdDSA","kid":"{kid}"}}"#);
            format!("Bearer {}.e30.AA", BASE64_URL_SAFE_NO_PAD.encode(header))
        };
        let (known, unknown) = (credential("a"), credential("b"));
        let before = authenticator.changes();
        let asked =
            |credential: &str| authenticator.unknown_key(Some(credential.as_bytes()), before);
        assert_eq!(asked(&known), None);
        assert_eq!(asked(&unknown).as_deref(), Some("b"));
        authenticator.keys_changed();
        assert_eq!(asked(&known).as_deref(), Some("a"));
    }
}
