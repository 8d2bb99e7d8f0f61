//! A signing key for development: lets `token` mint what a local server believes.

use std::io;
use std::path::{Path, PathBuf};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, encode};

use super::authenticator::TokenClaims;
use crate::master_key::make_secret_file;

/// The key's name in tokens.
const KEY_ID: &str = "development";

/// Why there is no development key, or no token.
#[derive(Debug, thiserror::Error)]
pub enum DevelopmentKeyError {
    /// The file cannot be read or made.
    #[error("development key `{path}` cannot be used")]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The file is no key.
    #[error("`{0}` is no Ed25519 key, remove it to have a new one made")]
    Content(PathBuf),
    /// The token could not be signed.
    #[error("the token cannot be signed")]
    Sign(#[from] jsonwebtoken::errors::Error),
}

/// A key pair that signs tokens for one machine.
pub struct DevelopmentKey {
    pkcs8: Vec<u8>,
    public: Vec<u8>,
}

impl DevelopmentKey {
    /// Reads the key from a file, which is made, for its owner alone, if it is not there.
    ///
    /// # Errors
    /// The file cannot be made or holds something else.
    pub fn read_or_make(path: &Path) -> Result<Self, DevelopmentKeyError> {
        let file = |source| DevelopmentKeyError::File {
            path: path.to_owned(),
            source,
        };
        let content = || DevelopmentKeyError::Content(path.to_owned());
        if !path.exists() {
            let pair = Ed25519KeyPair::generate().map_err(|_| content())?;
            let der = pair.to_pkcs8v1().map_err(|_| content())?;
            make_secret_file(path, der.as_ref()).map_err(file)?;
        }
        let pkcs8 = std::fs::read(path).map_err(file)?;
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&pkcs8).map_err(|_| content())?;
        let public = pair.public_key().as_ref().to_vec();
        Ok(Self { pkcs8, public })
    }

    /// The key's name, and what checks its tokens.
    pub fn verifier(&self) -> (String, DecodingKey) {
        (KEY_ID.to_owned(), DecodingKey::from_ed_der(&self.public))
    }

    /// Signs a token.
    ///
    /// # Errors
    /// The key cannot sign.
    pub fn sign(&self, claims: &TokenClaims) -> Result<String, DevelopmentKeyError> {
        let mut header = Header::new(Algorithm::EdDSA);
        header.kid = Some(KEY_ID.to_owned());
        Ok(encode(
            &header,
            claims,
            &EncodingKey::from_ed_der(&self.pkcs8),
        )?)
    }
}
