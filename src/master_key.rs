//! The master key, and what is sealed under it: page tokens, passwords of database roles.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Prk, Salt};
use aws_lc_rs::rand;
use uuid::Uuid;

use crate::error::Error;
use crate::hex;
use crate::ids::TenantId;

const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 12;

/// Why there is no master key.
#[derive(Debug, thiserror::Error)]
pub enum MasterKeyError {
    /// The file cannot be read or made.
    #[error("master key file `{path}` cannot be used")]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The file is no key.
    #[error(
        "master key file `{path}` must hold 64 hexadecimal digits, make one with `openssl rand -hex 32`"
    )]
    Content {
        /// The file.
        path: PathBuf,
    },
    /// The library refused, which it does not for keys of this length.
    #[error("the master key cannot be used")]
    Crypto,
}

/// The key that all other keys of an installation come from.
pub struct MasterKey([u8; KEY_BYTES]);

impl MasterKey {
    /// Reads the key from a file.
    ///
    /// # Errors
    /// The file is missing or holds something else.
    pub fn read(path: &Path) -> Result<Self, MasterKeyError> {
        let text = std::fs::read_to_string(path).map_err(|source| MasterKeyError::File {
            path: path.to_owned(),
            source,
        })?;
        let content = || MasterKeyError::Content {
            path: path.to_owned(),
        };
        let text = text.trim();
        if text.len() != KEY_BYTES * 2 || !text.is_ascii() {
            return Err(content());
        }
        let mut key = [0; KEY_BYTES];
        for (index, byte) in key.iter_mut().enumerate() {
            let digits = text.get(index * 2..index * 2 + 2).ok_or_else(content)?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| content())?;
        }
        Ok(Self(key))
    }

    /// Reads the key from a file, which is made, for its owner alone, if it is not there.
    ///
    /// # Errors
    /// The file cannot be made or holds something else.
    pub fn read_or_make(path: &Path) -> Result<Self, MasterKeyError> {
        if !path.exists() {
            let mut key = [0; KEY_BYTES];
            rand::fill(&mut key).map_err(|_| MasterKeyError::Crypto)?;
            let text = hex::digits(&key);
            make_secret_file(path, text.as_bytes()).map_err(|source| MasterKeyError::File {
                path: path.to_owned(),
                source,
            })?;
        }
        Self::read(path)
    }

    /// Makes the sealer of one purpose; what one seals, another cannot open.
    ///
    /// # Errors
    /// The library refused.
    pub fn sealer(&self, purpose: &'static str) -> Result<Sealer, MasterKeyError> {
        sealer(&self.derive(), &[purpose.as_bytes()]).map_err(|_| MasterKeyError::Crypto)
    }

    /// Makes the sealers of one purpose, each tenant its own.
    pub fn tenant_sealers(&self, purpose: &'static str) -> TenantSealers {
        TenantSealers {
            key: self.derive(),
            purpose,
        }
    }

    fn derive(&self) -> Prk {
        Salt::new(HKDF_SHA256, b"communication-service").extract(&self.0)
    }
}

fn sealer(key: &Prk, info: &[&[u8]]) -> Result<Sealer, Unspecified> {
    struct KeyLength;
    impl KeyType for KeyLength {
        fn len(&self) -> usize {
            KEY_BYTES
        }
    }
    let mut bytes = [0; KEY_BYTES];
    key.expand(info, KeyLength)?.fill(&mut bytes)?;
    let key = RandomizedNonceKey::new(&AES_256_GCM, &bytes)?;
    Ok(Sealer(Arc::new(key)))
}

/// Makes a sealer for each tenant: what one tenant's seals, another's cannot open.
#[derive(Clone)]
pub struct TenantSealers {
    key: Prk,
    purpose: &'static str,
}

impl TenantSealers {
    /// Makes the sealer of one tenant.
    ///
    /// # Errors
    /// The library refused.
    pub fn of(&self, tenant: TenantId) -> Result<Sealer, Error> {
        // The purpose is fixed for each family, so that no tenant's id can stand for another one.
        sealer(&self.key, &[self.purpose.as_bytes(), tenant.0.as_bytes()])
            .map_err(|_| Error::internal("no key can be derived"))
    }
}

/// Makes a file that its owner alone can read, whole or not at all. A file that is there already
/// stays as it is: somebody else made it a moment earlier.
///
/// # Errors
/// The folder cannot be written to.
pub fn make_secret_file(path: &Path, content: &[u8]) -> io::Result<()> {
    let unfinished = path.with_extension(Uuid::now_v7().simple().to_string());
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&unfinished)?;
    let written = file.write_all(content).and_then(|()| file.sync_all());
    // A link, unlike a renaming, never takes the place of a file.
    let linked = written.and_then(|()| match std::fs::hard_link(&unfinished, path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        linked => linked,
    });
    std::fs::remove_file(&unfinished)?;
    linked
}

/// The place that something sealed is bound to: a column of a row.
pub fn place(row: Uuid, column: &str) -> Aad<Vec<u8>> {
    Aad::from([row.as_bytes().as_slice(), column.as_bytes()].concat())
}

/// Seals and opens for one purpose.
#[derive(Clone)]
pub struct Sealer(Arc<RandomizedNonceKey>);

impl Sealer {
    /// Seals `plain` so that it opens only with the same `place`.
    ///
    /// # Errors
    /// The library refused.
    pub fn seal<A: AsRef<[u8]>>(
        &self,
        place: Aad<A>,
        mut plain: Vec<u8>,
    ) -> Result<Vec<u8>, Error> {
        let nonce = self
            .0
            .seal_in_place_append_tag(place, &mut plain)
            .map_err(|_| Error::internal("sealing failed"))?;
        let mut sealed = nonce.as_ref().to_vec();
        sealed.append(&mut plain);
        Ok(sealed)
    }

    /// Opens what was sealed for `place`; `None` for anything else.
    pub fn open<A: AsRef<[u8]>>(&self, place: Aad<A>, sealed: &[u8]) -> Option<Vec<u8>> {
        let (nonce, sealed) = sealed.split_at_checked(NONCE_BYTES)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut plain = sealed.to_vec();
        let length = self.0.open_in_place(nonce, place, &mut plain).ok()?.len();
        plain.truncate(length);
        Some(plain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &[u8] = b"a secret of a provider";

    fn key(byte: u8) -> MasterKey {
        MasterKey([byte; KEY_BYTES])
    }

    #[test]
    fn what_is_sealed_opens_in_its_place_alone() {
        let (tenant, other) = (TenantId(Uuid::now_v7()), TenantId(Uuid::now_v7()));
        let (row, column) = (Uuid::now_v7(), "secrets");
        let sealers = key(1).tenant_sealers("accounts");
        let sealer = sealers.of(tenant).unwrap();
        let sealed = sealer.seal(place(row, column), SECRET.to_vec()).unwrap();
        let again = key(1).tenant_sealers("accounts").of(tenant).unwrap();
        let opened = again.open(place(row, column), &sealed);
        assert_eq!(opened.as_deref(), Some(SECRET));
        for (sealer, row, column) in [
            (sealers.of(other).unwrap(), row, column),
            (sealer.clone(), Uuid::now_v7(), column),
            (sealer.clone(), row, "body"),
            (sealer.clone(), row, ""),
            (
                key(1).tenant_sealers("apps").of(tenant).unwrap(),
                row,
                column,
            ),
            (
                key(2).tenant_sealers("accounts").of(tenant).unwrap(),
                row,
                column,
            ),
            (key(1).sealer("accounts").unwrap(), row, column),
        ] {
            assert_eq!(sealer.open(place(row, column), &sealed), None);
        }
    }

    #[test]
    fn what_was_changed_does_not_open() {
        let sealer = key(1).sealer("tests").unwrap();
        let place = || Aad::from(b"place");
        let sealed = sealer.seal(place(), SECRET.to_vec()).unwrap();
        assert!(!sealed.windows(6).any(|part| part == b"secret"));
        let opens = |sealed: &[u8]| sealer.open(place(), sealed).is_some();
        assert!(opens(&sealed));
        for at in 0..sealed.len() {
            assert!(!opens(sealed.get(..at).unwrap_or_default()), "{at}");
            for bit in 0..8 {
                let mut changed = sealed.clone();
                if let Some(byte) = changed.get_mut(at) {
                    *byte ^= 1 << bit;
                }
                assert!(!opens(&changed), "{at}, {bit}");
            }
        }
        assert!(!opens(&[sealed.as_slice(), b"\0"].concat()));
        // The same again looks otherwise.
        assert_ne!(sealer.seal(place(), SECRET.to_vec()).unwrap(), sealed);
    }
}
