//! What Amazon's notifications need of Amazon: the certificate that signed, that a topic is told that
//! we want it, and the mail that they only tell of.

use std::sync::Arc;
use std::time::Duration;

use futures_util::TryStreamExt as _;
use http::{Method, Uri};
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path;
use object_store::signer::Signer as _;
use quick_cache::sync::Cache;
use tokio::sync::Semaphore;

use super::stored_mail::NoMail;
use crate::error::{Chain, Error};
use crate::guarded_client::{FetchError, GuardedClient, HostRule};
use crate::provider::email::StoredMail;
use crate::provider::signature::sns;

/// How many certificates are kept in mind.
const CERTIFICATES: usize = 64;
/// The most that an answer may have, in bytes.
const MOST: u64 = 64 * 1024;
/// The largest mail, in bytes: as large as a webhook with a mail may be.
const LARGEST_MAIL: u64 = 40 * 1024 * 1024;
/// How many mails are fetched at once: each is in memory as a whole.
const MAILS: usize = 2;
/// How long a signed address is good for.
const SIGNED_FOR: Duration = Duration::from_mins(5);
/// Where certificates and confirmations are.
const HOSTS: [HostRule; 2] = [
    HostRule::below("amazonaws.com"),
    HostRule::below("amazonaws.com.cn"),
];

/// Asks Amazon.
pub struct Amazon {
    client: Arc<GuardedClient>,
    /// Where it is asked, in place of its own hosts.
    elsewhere: Option<String>,
    certificates: Cache<String, Arc<Vec<u8>>>,
    mails: Semaphore,
}

impl Amazon {
    /// Asks by a client, at its own hosts or elsewhere.
    pub fn new(client: Arc<GuardedClient>, elsewhere: Option<String>) -> Self {
        Self {
            client,
            elsewhere,
            certificates: Cache::new(CERTIFICATES),
            mails: Semaphore::new(MAILS),
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
        let got = match &self.elsewhere {
            None => self.fetch(url, &HOSTS, MOST).await,
            Some(elsewhere) => {
                let url: Uri = url.parse().map_err(Error::internal)?;
                let path = url.path_and_query().map_or("/", |path| path.as_str());
                let hosts: Vec<_> = HostRule::of(elsewhere).into_iter().collect();
                self.fetch(&format!("{elsewhere}{path}"), &hosts, MOST)
                    .await
            }
        };
        got.map_err(unavailable)
    }

    /// Reads a mail that is kept in S3, by an access key: its id, `:` and its secret.
    pub async fn mail(&self, place: &StoredMail, access_key: &str) -> Result<Vec<u8>, NoMail> {
        let endpoint = match &self.elsewhere {
            Some(elsewhere) => elsewhere.clone(),
            None => {
                let words = "the mail is in S3, and the topic that tells of it has no region";
                endpoint(&place.topic).ok_or_else(|| NoMail::Refused(words.to_owned()))?
            }
        };
        let url = signed(place, &endpoint, access_key).await?;
        let hosts: Vec<_> = HostRule::of(&endpoint).into_iter().collect();
        let _turn = self.mails.acquire().await;
        let got = self.fetch(&url, &hosts, LARGEST_MAIL).await;
        got.map_err(|error| {
            let words = Chain(&error).to_string();
            match error {
                error if error.may_pass() => NoMail::Error(Error::Unavailable(words.into())),
                FetchError::Unauthorized(_) => NoMail::Refused(
                    "the mail is in S3, and `email_secrets.api_key` may not read it".to_owned(),
                ),
                _ => NoMail::Refused(format!("the mail is in S3: {words}")),
            }
        })
    }

    async fn fetch(&self, url: &str, hosts: &[HostRule], most: u64) -> Result<Vec<u8>, FetchError> {
        let fetched = self.client.fetch(url, hosts, None, most).await?;
        let pieces: Vec<_> = fetched.body.try_collect().await?;
        Ok(pieces.concat())
    }
}

/// Where S3 is in the region of a topic.
fn endpoint(topic: &str) -> Option<String> {
    let mut parts = topic.split(':');
    let (partition, region) = (parts.nth(1)?, parts.nth(1)?);
    let suffix = if partition == "aws-cn" { ".cn" } else { "" };
    let is_region = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let is_one = !region.is_empty() && region.bytes().all(is_region);
    is_one.then(|| format!("https://s3.{region}.amazonaws.com{suffix}"))
}

/// The address of a mail, with what lets whoever has it read the mail for a while.
async fn signed(place: &StoredMail, endpoint: &str, access_key: &str) -> Result<String, NoMail> {
    let refused = |words: &str| NoMail::Refused(format!("the mail is in S3, and {words}"));
    let Some((id, secret)) = access_key.split_once(':') else {
        return Err(refused("the account has no `email_secrets.api_key`"));
    };
    let region = place.topic.split(':').nth(3).unwrap_or_default();
    let bucket: AmazonS3 = AmazonS3Builder::new()
        .with_bucket_name(&place.bucket)
        .with_region(region)
        .with_endpoint(endpoint)
        .with_allow_http(true)
        .with_access_key_id(id)
        .with_secret_access_key(secret)
        .build()
        .map_err(|error| refused(&Chain(&error).to_string()))?;
    let key = Path::parse(&place.key).map_err(|error| refused(&Chain(&error).to_string()))?;
    let url = bucket.signed_url(Method::GET, &key, SIGNED_FOR).await;
    let url = url.map_err(|error| refused(&Chain(&error).to_string()))?;
    Ok(url.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(topic: &str, key: &str) -> StoredMail {
        StoredMail {
            topic: topic.to_owned(),
            bucket: "mails".to_owned(),
            key: key.to_owned(),
        }
    }

    #[test]
    fn s3_is_asked_where_the_topic_is() {
        for (topic, expected) in [
            (
                "arn:aws:sns:eu-west-1:1:in",
                Some("https://s3.eu-west-1.amazonaws.com"),
            ),
            (
                "arn:aws-cn:sns:cn-north-1:1:in",
                Some("https://s3.cn-north-1.amazonaws.com.cn"),
            ),
            ("arn:aws:sns:evil.example/:1:in", None),
            ("arn:aws:sns::1:in", None),
            ("", None),
        ] {
            assert_eq!(endpoint(topic).as_deref(), expected, "{topic}");
        }
    }

    #[tokio::test]
    async fn an_address_is_signed_by_the_accounts_own_key() {
        let place = place("arn:aws:sns:eu-west-1:1:in", "in/some mail+1");
        let endpoint = "https://s3.eu-west-1.amazonaws.com";
        let url = signed(&place, endpoint, "AKIDEXAMPLE:secret").await;
        let Ok(url) = url else {
            panic!("no address");
        };
        let head = "https://s3.eu-west-1.amazonaws.com/mails/in/some%20mail%2B1?";
        assert!(url.starts_with(head), "{url}");
        assert!(url.contains("X-Amz-Credential=AKIDEXAMPLE%2F"), "{url}");
        assert!(!url.contains("secret"), "{url}");
        for (key, access_key) in [("in/one", ""), ("in/one", "AKID"), ("a//b", "AKID:secret")] {
            let place = StoredMail {
                key: key.to_owned(),
                ..place.clone()
            };
            let refused = signed(&place, endpoint, access_key).await;
            assert!(matches!(refused, Err(NoMail::Refused(_))), "{key}");
        }
    }
}
