//! What Amazon's notifications need of Amazon: the certificate that signed, and that a topic is told
//! that we want it.

use std::sync::Arc;

use futures_util::TryStreamExt as _;
use quick_cache::sync::Cache;

use crate::error::{Chain, Error};
use crate::guarded_client::{GuardedClient, HostRule};
use crate::provider::signature::sns;

/// How many certificates are kept in mind.
const CERTIFICATES: usize = 64;
/// The most that an answer may have, in bytes.
const MOST: u64 = 64 * 1024;
/// Where certificates and confirmations are.
const HOSTS: [HostRule; 2] = [
    HostRule::below("amazonaws.com"),
    HostRule::below("amazonaws.com.cn"),
];

/// Asks Amazon.
pub struct Amazon {
    client: Arc<GuardedClient>,
    certificates: Cache<String, Arc<Vec<u8>>>,
}

impl Amazon {
    /// Asks by a client.
    pub fn new(client: Arc<GuardedClient>) -> Self {
        Self {
            client,
            certificates: Cache::new(CERTIFICATES),
        }
    }

    /// The certificate that a notification names, if it names one of Amazon's.
    ///
    /// # Errors
    /// Amazon does not give it for now.
    pub async fn certificate(&self, body: &[u8]) -> Result<Option<Arc<Vec<u8>>>, Error> {
        let Some(url) = sns::certificate_url(body) else {
            return Ok(None);
        };
        if let Some(certificate) = self.certificates.get(&url) {
            return Ok(Some(certificate));
        }
        let certificate = Arc::new(self.get(&url).await?);
        self.certificates.insert(url, certificate.clone());
        Ok(Some(certificate))
    }

    /// Tells a topic that we want what it sends. The address is one that Amazon has signed.
    ///
    /// # Errors
    /// Amazon does not take it for now.
    pub async fn confirm(&self, url: &str) -> Result<(), Error> {
        self.get(url).await.map(drop)
    }

    async fn get(&self, url: &str) -> Result<Vec<u8>, Error> {
        let unavailable = |error| Error::Unavailable(Chain(&error).to_string().into());
        let fetched = self.client.fetch(url, &HOSTS, None, MOST).await;
        let fetched = fetched.map_err(unavailable)?;
        let pieces: Vec<_> = fetched.body.try_collect().await.map_err(unavailable)?;
        Ok(pieces.concat())
    }
}
