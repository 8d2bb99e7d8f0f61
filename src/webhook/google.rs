//! The keys by which Google signs what it pushes.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::HeaderMap;

use crate::error::{Chain, Error};
use crate::guarded_client::{GuardedClient, HostRule, Question};
use crate::provider::signature::google::{Keys, MAX_KEYS_BYTES, Proof, Pusher, proof};
use crate::tenant::{App, Provider};

/// How long the keys are believed to be all.
const FRESH: Duration = Duration::from_hours(1);
/// How soon they are asked for again because of a key that is none of them.
const PAUSE: Duration = Duration::from_secs(60);

/// Knows Google's keys.
pub struct Google {
    client: Arc<GuardedClient>,
    url: String,
    known: Mutex<Option<(Instant, Arc<Keys>)>>,
}

impl Google {
    /// Asks for keys at an address.
    pub fn new(client: Arc<GuardedClient>, url: String) -> Self {
        Self {
            client,
            url,
            known: Mutex::default(),
        }
    }

    /// The keys that may have signed a request to one of the apps, if one of them is of Google.
    ///
    /// # Errors
    /// Google does not give them for now.
    pub async fn keys(
        &self,
        apps: &[App],
        urls: &[String],
        headers: &HeaderMap,
        now: i64,
    ) -> Result<Option<Arc<Keys>>, Error> {
        let of_google = || apps.iter().filter(|app| app.provider == Provider::Google);
        if of_google().next().is_none() {
            return Ok(None);
        }
        let known = self
            .known
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if let Some((read_at, keys)) = known {
            let is_of_another = of_google().any(|app| {
                let pusher = Pusher {
                    audiences: urls,
                    service_account: &app.external_id,
                };
                proof(&keys, &pusher, now, headers) == Proof::UnknownKey
            });
            let age = read_at.elapsed();
            if age < FRESH && (!is_of_another || age < PAUSE) {
                return Ok(Some(keys));
            }
        }
        let keys = Arc::new(self.ask().await?);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        *known = Some((Instant::now(), keys.clone()));
        Ok(Some(keys))
    }

    async fn ask(&self) -> Result<Keys, Error> {
        let hosts: Vec<HostRule> = HostRule::of(&self.url).into_iter().collect();
        let most = u64::try_from(MAX_KEYS_BYTES).map_err(Error::internal)?;
        let question = Question::default();
        let asked = self.client.call(&self.url, &hosts, None, question, most);
        let reply = asked.await.map_err(|error| unavailable(&Chain(&error)))?;
        if !reply.status.is_success() {
            return Err(unavailable(&format!("Google answers {}", reply.status)));
        }
        Keys::read(&reply.body).map_err(|error| unavailable(&error))
    }
}

fn unavailable(why: &dyn std::fmt::Display) -> Error {
    Error::Unavailable(why.to_string().into())
}
