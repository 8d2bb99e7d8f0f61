//! Fetches the files of customers' messages from the providers, behind everything else.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::sync::Semaphore;
use tracing::Instrument as _;

use super::delivery;
use super::item::{Content, Items, read};
use super::webhooks::Webhooks;
use super::worker::back_off;
use crate::error::{Chain, Error};
use crate::guarded_client::{FetchError, Question};
use crate::hex;
use crate::ids::{DeliveryId, TenantId};
use crate::inbox::media::{self, DueFile, FetchedFile, Source};
use crate::inbox::{FetchFailure, FileSource, Inbound, content_type};
use crate::provider::media::{Answer, Interfaces, Way, lifetime};
use crate::provider::wrapped::Unwrapping;
use crate::tenant::{AccountAccess, TenantScope};

/// How many files are fetched at once, of all tenants and of one. Each has up to two parts of five
/// megabytes in memory.
const TOGETHER: (usize, usize) = (12, 3);
/// How many files of a tenant are taken at a time.
const TAKEN: i64 = 6;
/// How long whoever fetches a file has for it: longer than the client takes.
const LEASE: Duration = Duration::from_secs(150);
/// How long a file waits that could not be fetched, at first and at most.
const WAITS: (Duration, Duration) = (Duration::from_secs(4), Duration::from_hours(1));
/// How often a file is asked for that the provider says it has not: some know of it later.
const PATIENCE: i32 = 6;
/// The most that a look-up may answer, in bytes.
const MAX_LOOKUP: u64 = 64 * 1024;
/// How many of the first bytes tell what a file is.
const BEGINNING: usize = 8192;

/// Who fetches.
pub(super) struct Fetchers {
    /// Where the providers' own interfaces are.
    pub(super) interfaces: Interfaces,
    places: Semaphore,
    /// The tenants whose files are being fetched, and whether somebody has asked for more.
    busy: Mutex<HashMap<TenantId, bool>>,
}

/// Why a file is not there yet.
enum Obstacle {
    /// It may work later, perhaps after a time that the provider asks for. If it never does, the
    /// failure says why.
    Later(String, Option<Duration>, FetchFailure),
    /// It never will.
    Never(String, FetchFailure),
}

impl Fetchers {
    pub fn new(interfaces: Interfaces) -> Self {
        Self {
            interfaces,
            places: Semaphore::new(TOGETHER.0),
            busy: Mutex::default(),
        }
    }

    /// Tells whether nobody fetches the files of a tenant; from now on the caller does.
    fn begin(&self, tenant: TenantId) -> bool {
        let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = !busy.contains_key(&tenant);
        busy.insert(tenant, !is_new);
        is_new
    }

    /// Ends fetching the files of a tenant, unless somebody has asked for more since.
    fn end(&self, tenant: TenantId) -> bool {
        let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        if busy.insert(tenant, false) == Some(true) {
            return false;
        }
        busy.remove(&tenant);
        true
    }
}

impl Webhooks {
    /// Fetches what is due of a tenant's files, behind the caller.
    pub fn fetch_files(&self, scope: TenantScope) {
        let tenant = scope.tenant_id();
        if !self.0.fetchers.begin(tenant) {
            return;
        }
        let webhooks = self.clone();
        let fetching = async move {
            loop {
                let fetched = webhooks.fetch_due(&scope).await;
                let goes_on = fetched.unwrap_or_else(|error| {
                    tracing::warn!(error = %Chain(&error), "files have to wait");
                    false
                });
                if !goes_on && webhooks.0.fetchers.end(tenant) {
                    return;
                }
            }
        };
        // Whoever stops the service does not wait for it: its leases end, and others go on.
        tokio::spawn(fetching.in_current_span());
    }

    /// Fetches some of the files that are due; tells whether there were any.
    async fn fetch_due(&self, scope: &TenantScope) -> Result<bool, Error> {
        if !media::is_due(&mut scope.conn().await?).await? {
            return Ok(false);
        }
        // If this node ends in between, another takes up where the leases end.
        self.0.tenants.set_alarm_in(scope, LEASE).await?;
        let due = media::take(&mut scope.conn().await?, TAKEN, LEASE.as_secs_f64()).await?;
        let (mut inline, mut remote) = (Vec::new(), Vec::new());
        for due in due {
            match due.source()? {
                Source::Inline { message, place } => inline.push((due, message, place)),
                source => remote.push((due, source)),
            }
        }
        let some = !inline.is_empty() || !remote.is_empty();
        self.take_out(scope, inline).await?;
        let fetching = stream::iter(remote).map(|(due, source)| self.fetch(scope, due, source));
        let mut fetching = fetching.buffer_unordered(TOGETHER.1);
        while let Some(fetched) = fetching.next().await {
            fetched?;
        }
        Ok(some)
    }

    /// Takes files out of the deliveries that brought them.
    async fn take_out(
        &self,
        scope: &TenantScope,
        files: Vec<(DueFile, String, usize)>,
    ) -> Result<(), Error> {
        // Reading a delivery costs more than any file of it.
        let mut opened: Option<(DeliveryId, Option<Items>)> = None;
        for (due, message, place) in files {
            let _place = self.place().await?;
            let items = match opened.take() {
                Some((id, items)) if id == due.delivery_id => items,
                _ => {
                    let mut conn = self.0.tenants.directory_conn().await?;
                    let found = delivery::find(&mut conn, &self.0.sealer, due.delivery_id).await?;
                    found.map(|delivery| read(&delivery))
                }
            };
            let content = items
                .as_ref()
                .and_then(|items| content_of(items, &message, place));
            let fetched = match content {
                None => {
                    let why = "the delivery is not kept any more".to_owned();
                    Err(Obstacle::Never(why, FetchFailure::Gone))
                }
                Some(content) => {
                    let content = stream::iter([Ok(content)]).boxed();
                    store(scope, &due, None, content).await
                }
            };
            self.settle(scope, &due, Duration::MAX, fetched).await?;
            opened = Some((due.delivery_id, items));
        }
        Ok(())
    }

    /// Fetches a file from its provider.
    async fn fetch(&self, scope: &TenantScope, due: DueFile, source: Source) -> Result<(), Error> {
        let _place = self.place().await?;
        let access = self
            .0
            .tenants
            .account_access(due.channel_account_id)
            .await?;
        let fetched = if access.tenant_id == scope.tenant_id() {
            self.bring(scope, &due, &source, &access).await
        } else {
            let why = "the account is another tenant's by now".to_owned();
            Err(Obstacle::Never(why, FetchFailure::Refused))
        };
        let lifetime = lifetime(&source, &access.settings);
        self.settle(scope, &due, lifetime, fetched).await
    }

    async fn place(&self) -> Result<tokio::sync::SemaphorePermit<'_>, Error> {
        let place = self.0.fetchers.places.acquire().await;
        place.map_err(Error::internal)
    }

    async fn bring(
        &self,
        scope: &TenantScope,
        due: &DueFile,
        source: &Source,
        access: &AccountAccess,
    ) -> Result<FetchedFile, Obstacle> {
        let way = Way::to(source, access, &self.0.fetchers.interfaces);
        let mut way = way.ok_or_else(|| {
            let why = "files of this kind cannot be fetched for the account".to_owned();
            Obstacle::Never(why, FetchFailure::Refused)
        })?;
        let mut sha256 = None;
        if way.answer == Answer::Place {
            let answer = self.look_up(due, &way).await?;
            (way, sha256) = way.onwards(&answer).ok_or_else(|| {
                let why = "the provider does not say where the file is".to_owned();
                Obstacle::Later(why, None, FetchFailure::Expired)
            })?;
        }
        let mut most = scope.files().most();
        if let Answer::Wrapped(_) = &way.answer {
            // Four digits are three bytes.
            most = most / 3 * 4;
        }
        let (said, content) = self.ask(due, &way, most).await?;
        let has_token = way.credentials.is_some();
        let content = content.map_err(|error| obstacle(due, has_token, &error));
        let fetched = store(scope, due, said, content.boxed()).await?;
        if sha256.is_some_and(|sha256| sha256 != fetched.sha256) {
            let why = "the file is not the one that the provider told of".to_owned();
            return Err(Obstacle::Later(why, None, FetchFailure::Expired));
        }
        if fetched.size_bytes == 0 {
            let why = "the provider answers with an empty file".to_owned();
            return Err(Obstacle::Later(why, None, FetchFailure::Expired));
        }
        Ok(fetched)
    }

    /// Asks where a file is.
    async fn look_up(&self, due: &DueFile, way: &Way) -> Result<Vec<u8>, Obstacle> {
        let answer = async {
            let (_, answer) = self.ask(due, way, MAX_LOOKUP).await?;
            let answer = answer.try_collect::<Vec<_>>().await;
            answer.map_err(|error| obstacle(due, way.credentials.is_some(), &error))
        };
        answer
            .await
            .map(|pieces| pieces.concat())
            .map_err(|found| match found {
                // The answer is, not the file.
                Obstacle::Never(why, FetchFailure::TooLarge) => {
                    Obstacle::Later(why, None, FetchFailure::Expired)
                }
                other => other,
            })
    }

    /// Begins to fetch; returns what the provider says that it is, and its bytes.
    async fn ask(
        &self,
        due: &DueFile,
        way: &Way,
        most: u64,
    ) -> Result<
        (
            Option<String>,
            BoxStream<'static, Result<Bytes, FetchError>>,
        ),
        Obstacle,
    > {
        let credentials = way.credentials.as_ref();
        let client = &self.0.client;
        let obstacle = |error| obstacle(due, credentials.is_some(), &error);
        let (url, hosts) = (&way.url, &way.hosts);
        if let Answer::Wrapped(question) = &way.answer {
            let content = Some(("application/json", question.clone()));
            let question = Question { content };
            let answered = client.fetch_answer(url, hosts, credentials, question, most);
            let answered = answered.await.map_err(obstacle)?;
            let mut unwrapping = Unwrapping::default();
            let file = (answered.body).map_ok(move |piece| unwrapping.push(&piece).into());
            return Ok((None, file.boxed()));
        }
        let fetched = client.fetch(url, hosts, credentials, most).await;
        let fetched = fetched.map_err(obstacle)?;
        Ok((fetched.content_type, fetched.body))
    }

    /// Says what came of a file, or when it is tried again.
    async fn settle(
        &self,
        scope: &TenantScope,
        due: &DueFile,
        lifetime: Duration,
        fetched: Result<FetchedFile, Obstacle>,
    ) -> Result<(), Error> {
        let id = due.attachment_id;
        let (outcome, settled) = match fetched {
            Ok(file) => ("fetched", Ok(file)),
            Err(Obstacle::Later(why, wait, failure)) => {
                let wait = wait.unwrap_or_default().max(back_off(due.attempts, WAITS));
                let age = Duration::try_from_secs_f64(due.age_seconds).unwrap_or_default();
                if age.saturating_add(wait) < lifetime {
                    tracing::info!(attachment.id = %id, attempts = due.attempts, error = why, "a file could not be fetched yet");
                    count("put_off");
                    self.0.tenants.set_alarm_in(scope, wait).await?;
                    let mut conn = scope.conn().await?;
                    return media::put_off(&mut conn, due, wait.as_secs_f64()).await;
                }
                tracing::warn!(attachment.id = %id, error = why, "a file could not be fetched in time");
                ("failed", Err(failure))
            }
            Err(Obstacle::Never(why, failure)) => {
                tracing::warn!(attachment.id = %id, error = why, "a file cannot be fetched");
                ("failed", Err(failure))
            }
        };
        count(outcome);
        let may_stay = {
            let settled = settled.as_ref().map_err(|failure| *failure);
            media::settle(&mut scope.conn().await?, due, settled).await?
        };
        if !may_stay {
            scope.files().remove(&[id]).await?;
        }
        Ok(())
    }
}

/// Finds a file in a delivery.
fn content_of(items: &Items, message: &str, place: usize) -> Option<Bytes> {
    let items = items.as_ref().ok()?;
    let mut messages = items.iter().filter_map(|item| match &item.content {
        Content::Inbound(Inbound::Message(inbound)) => Some(inbound),
        _ => None,
    });
    let found = messages.find(|inbound| inbound.provider_id == message)?;
    match &found.files.get(place)?.source {
        FileSource::Inline(content) => Some(content.clone()),
        FileSource::Url(_) | FileSource::Media(_) | FileSource::Upload(_) => None,
    }
}

/// Writes a file whose bytes come little by little.
async fn store(
    scope: &TenantScope,
    due: &DueFile,
    said: Option<String>,
    mut content: BoxStream<'_, Result<Bytes, Obstacle>>,
) -> Result<FetchedFile, Obstacle> {
    let mut file = scope.files().writer(due.attachment_id);
    let mut beginning = Vec::new();
    let writing = async {
        while let Some(chunk) = content.next().await {
            let chunk = chunk?;
            let missing = BEGINNING.saturating_sub(beginning.len());
            beginning.extend_from_slice(&chunk[..missing.min(chunk.len())]);
            file.push(&chunk);
            while file.has_part() {
                file.write_part().await.map_err(|error| unstored(&error))?;
            }
        }
        file.end().await.map_err(|error| unstored(&error))
    };
    if let Err(obstacle) = writing.await {
        file.abort().await;
        return Err(obstacle);
    }
    let said = [Some(due.content_type.clone()), said]
        .into_iter()
        .flatten()
        .filter_map(|said| content_type::parse(&said))
        .find(|said| said != content_type::UNKNOWN);
    let (proved, extension) = content_type::prove(&beginning);
    // What contradicts its first bytes is what these prove.
    let settled = content_type::settle(said.as_deref(), &beginning);
    let mut file_name = due.file_name.clone();
    if let Some(extension) = extension.filter(|_| !file_name.contains('.')) {
        file_name = format!("{file_name}.{extension}");
    }
    Ok(FetchedFile {
        file_name,
        content_type: settled.unwrap_or_else(|| proved.to_owned()),
        size_bytes: i64::try_from(file.size()).unwrap_or(i64::MAX),
        sha256: hex::digits(&file.hash()),
    })
}

fn unstored(error: &Error) -> Obstacle {
    Obstacle::Later(Chain(error).to_string(), None, FetchFailure::Expired)
}

/// What an error of the client means for a file.
fn obstacle(due: &DueFile, has_credentials: bool, error: &FetchError) -> Obstacle {
    let why = Chain(error).to_string();
    match error {
        FetchError::Refused(_) => Obstacle::Never(why, FetchFailure::Refused),
        FetchError::TooLarge { .. } => Obstacle::Never(why, FetchFailure::TooLarge),
        FetchError::Unavailable { retry_after, .. } => {
            Obstacle::Later(why, *retry_after, FetchFailure::Expired)
        }
        FetchError::Compressed => Obstacle::Later(why, None, FetchFailure::Expired),
        // Another token may come.
        FetchError::Credentials | FetchError::Unauthorized(_) if has_credentials => {
            Obstacle::Later(why, None, FetchFailure::Unauthorized)
        }
        FetchError::Credentials
        | FetchError::Unauthorized(_)
        | FetchError::Gone
        | FetchError::Rejected(_) => {
            if due.attempts < PATIENCE {
                Obstacle::Later(why, None, FetchFailure::Gone)
            } else {
                Obstacle::Never(why, FetchFailure::Gone)
            }
        }
    }
}

fn count(outcome: &'static str) {
    metrics::counter!("media_fetches_total", "outcome" => outcome).increment(1);
}
