//! The keys that tokens are signed with, kept as their source has them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use jsonwebtoken::DecodingKey;
use jsonwebtoken::jwk::{AlgorithmParameters, Jwk, JwkSet, PublicKeyUse};
use tokio::sync::Mutex;

use super::key_server::{KeyServer, KeyServerError};
use crate::error::Chain;

/// How often a file is read again.
const READ_AGAIN: Duration = Duration::from_secs(5);
/// How often a key server is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(300);
/// How often an unknown key may be the reason to ask: anybody can make one up.
const UNKNOWN: Duration = Duration::from_secs(60);
/// How long keys are believed whose source cannot be reached any more.
const BRIDGE: Duration = Duration::from_secs(24 * 3600);
/// More than any set has.
const MAX_KEYS: usize = 100;

/// Why there are no keys.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    /// The JWKS file cannot be read.
    #[error("JWKS file `{path}` cannot be read")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The key server has none.
    #[error("no keys can be fetched from COMM_JWKS_URL")]
    Fetch(#[from] KeyServerError),
    /// What is there is no JWKS.
    #[error("{0} is not a JSON Web Key Set")]
    Parse(String, #[source] serde_json::Error),
    /// There is nothing to believe in it.
    #[error("{0} has no key that can check a token, or more than {MAX_KEYS}")]
    NoKey(String),
}

/// Where keys come from.
pub enum KeySource {
    /// A file.
    File(PathBuf),
    /// A server.
    Server(KeyServer),
}

type Keys = HashMap<String, TrustedKey>;

/// A key that tokens are checked with.
pub struct TrustedKey {
    /// The key.
    pub key: DecodingKey,
    /// Whether it is still believed; whoever was let in with it looks here.
    pub holds: Arc<AtomicBool>,
    /// What it was made of.
    jwk: Jwk,
}

/// The keys of one source.
pub struct Keyring {
    source: KeySource,
    keys: RwLock<Arc<Keys>>,
    asked: Mutex<Asked>,
}

struct Asked {
    /// What the keys were made of.
    text: Vec<u8>,
    succeeded: Instant,
    for_unknown: Option<Instant>,
}

impl Keyring {
    /// Gets the keys that a source has now.
    ///
    /// # Errors
    /// It has none.
    pub async fn open(source: KeySource) -> Result<Self, KeyringError> {
        let text = source.read().await?;
        let keys = source.parse(&text)?;
        Ok(Self {
            source,
            keys: RwLock::new(Arc::new(keys)),
            asked: Mutex::new(Asked {
                text,
                succeeded: Instant::now(),
                for_unknown: None,
            }),
        })
    }

    /// The keys, by id.
    pub fn keys(&self) -> Arc<Keys> {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        keys.clone()
    }

    /// Asks for a key that is not known, unless that was done a short time ago.
    pub async fn learn(&self, kid: &str, changed: impl Fn()) {
        let mut asked = self.asked.lock().await;
        let recently = |at: Instant| at.elapsed() < UNKNOWN;
        if self.keys().contains_key(kid) || asked.for_unknown.is_some_and(recently) {
            return;
        }
        asked.for_unknown = Some(Instant::now());
        self.renew(&mut asked, Instant::now(), &changed).await;
    }

    /// Keeps the keys as the source has them, for ever; `changed` is called after each change.
    pub async fn follow(&self, changed: impl Fn()) {
        let again = match self.source {
            KeySource::File(_) => READ_AGAIN,
            KeySource::Server(_) => ASK_AGAIN,
        };
        loop {
            tokio::time::sleep(again).await;
            let mut asked = self.asked.lock().await;
            self.renew(&mut asked, Instant::now(), &changed).await;
        }
    }

    async fn renew(&self, asked: &mut Asked, now: Instant, changed: &impl Fn()) {
        let renewed = match self.source.read().await {
            Ok(text) if text == asked.text => Ok(None),
            Ok(text) => self.source.parse(&text).map(|keys| Some((text, keys))),
            Err(error) => Err(error),
        };
        match renewed {
            Ok(None) => asked.succeeded = now,
            Ok(Some((text, keys))) => {
                tracing::info!(keys = keys.len(), "the keys of tokens changed");
                asked.text = text;
                asked.succeeded = now;
                self.set(keys, changed);
            }
            Err(error) if now.duration_since(asked.succeeded) < BRIDGE => {
                tracing::warn!(error = %Chain(&error), "the keys of tokens cannot be renewed, those known are kept");
            }
            Err(error) => {
                tracing::error!(error = %Chain(&error), "the keys of tokens are too old, no token is believed");
                asked.text.clear();
                self.set(Keys::new(), changed);
            }
        }
    }

    fn set(&self, mut keys: Keys, changed: &impl Fn()) {
        for (kid, before) in self.keys().iter() {
            match keys.get_mut(kid) {
                Some(now) if now.jwk == before.jwk => now.holds = before.holds.clone(),
                _ => before.holds.store(false, Ordering::Relaxed),
            }
        }
        let mut kept = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        *kept = Arc::new(keys);
        // Whoever sees these keys sees that they have changed.
        changed();
    }
}

impl KeySource {
    async fn read(&self) -> Result<Vec<u8>, KeyringError> {
        match self {
            Self::File(path) => {
                let read = tokio::fs::read(path).await;
                read.map_err(|source| KeyringError::Read {
                    path: path.clone(),
                    source,
                })
            }
            Self::Server(server) => Ok(server.fetch().await?.to_vec()),
        }
    }

    /// Takes the keys that can check a token; a set may hold others too.
    fn parse(&self, text: &[u8]) -> Result<Keys, KeyringError> {
        let set: JwkSet = serde_json::from_slice(text)
            .map_err(|error| KeyringError::Parse(self.name(), error))?;
        let keys: Keys = set.keys.iter().filter_map(key).collect();
        if keys.is_empty() || set.keys.len() > MAX_KEYS {
            return Err(KeyringError::NoKey(self.name()));
        }
        Ok(keys)
    }

    fn name(&self) -> String {
        match self {
            Self::File(path) => format!("`{}`", Path::display(path)),
            Self::Server(_) => "what COMM_JWKS_URL answers".to_owned(),
        }
    }
}

fn key(jwk: &Jwk) -> Option<(String, TrustedKey)> {
    let signs = matches!(
        jwk.common.public_key_use,
        None | Some(PublicKeyUse::Signature)
    );
    // Who could check with a secret could sign with it.
    let public = !matches!(jwk.algorithm, AlgorithmParameters::OctetKey(_));
    let kid = jwk.common.key_id.clone().unwrap_or_default();
    let key = TrustedKey {
        key: DecodingKey::from_jwk(jwk).ok()?,
        holds: Arc::new(AtomicBool::new(true)),
        jwk: jwk.clone(),
    };
    (signs && public).then_some((kid, key))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    const SET: &str = r#"{"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "a", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;

    /// A keyring of the one key `a`, whose source is gone.
    pub async fn opened() -> Keyring {
        let path = std::env::temp_dir().join(format!("keyring-{}", uuid::Uuid::now_v7()));
        std::fs::write(&path, SET).unwrap();
        let keyring = Keyring::open(KeySource::File(path.clone())).await.unwrap();
        std::fs::remove_file(&path).unwrap();
        keyring
    }

    #[test]
    fn only_public_signing_keys_are_taken() {
        let source = KeySource::File("x".into());
        assert_eq!(source.parse(SET.as_bytes()).unwrap().len(), 1);
        let with = |key: &str| SET.replace("[{", &format!("[{key}, {{"));
        let secret = with(r#"{"kty": "oct", "kid": "b", "k": "c2VjcmV0"}"#);
        assert_eq!(source.parse(secret.as_bytes()).unwrap().len(), 1);
        let other = with(r#"{"kty": "new", "kid": "b"}"#);
        assert_eq!(source.parse(other.as_bytes()).unwrap().len(), 1);
        let encrypts = SET.replace(r#""kid""#, r#""use": "enc", "kid""#);
        for none in [encrypts.as_str(), r#"{"keys": []}"#, "{}", "", "<html>"] {
            assert!(source.parse(none.as_bytes()).is_err(), "{none}");
        }
    }

    #[tokio::test]
    async fn a_change_is_told_before_anybody_sees_its_keys() {
        let keyring = opened().await;
        let visible = std::cell::Cell::new(None);
        let told = || visible.set(Some(keyring.keys.try_read().is_ok()));
        keyring.set(Keys::new(), &told);
        assert_eq!(visible.get(), Some(false));
        assert!(keyring.keys().is_empty());
    }

    #[tokio::test]
    async fn keys_outlive_their_source_by_a_day_and_no_more() {
        let path = std::env::temp_dir().join(format!("keyring-{}", uuid::Uuid::now_v7()));
        std::fs::write(&path, SET).unwrap();
        let keyring = Keyring::open(KeySource::File(path.clone())).await.unwrap();
        std::fs::write(&path, "{}").unwrap();
        let start = Instant::now();
        let renew = async |after: Duration| {
            let mut asked = keyring.asked.lock().await;
            keyring.renew(&mut asked, start + after, &|| {}).await;
            keyring.keys().len()
        };
        assert_eq!(renew(BRIDGE / 2).await, 1);
        assert_eq!(renew(BRIDGE + UNKNOWN).await, 0);
        std::fs::write(&path, SET).unwrap();
        assert_eq!(renew(BRIDGE * 2).await, 1);
        std::fs::remove_file(&path).unwrap();
    }
}
