//! Reads mailboxes at Gmail: from where they were read to last, whenever something is told of them, and
//! every few minutes in case nothing was. Twilio's log of an account is such a mailbox, too.
//!
//! Each mail is kept as a delivery before the place is moved on, and goes the way of every delivery
//! from there. So a mail may be asked for twice, and none is passed over.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::StatusCode;
use quick_cache::sync::Cache;
use serde_json::json;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use url::form_urlencoded;
use uuid::Uuid;

use super::check::Finding;
use super::new_delivery::NewDelivery;
use super::twilio_log::has_log;
use super::verified::asked_for;
use super::webhooks::Webhooks;
use super::worker::back_off;
use crate::channel::Channel;
use crate::clock;
use crate::error::{Chain, Error};
use crate::guarded_client::{Credentials, FetchError, HostRule, Question};
use crate::ids::ChannelAccountId;
use crate::provider::gmail::{Failure, MAIL, MAX_ANSWER_BYTES, Reason, history, message, token};
use crate::tenant::{AccountAccess, App, ChannelSettings, DueMailbox};

/// How many mailboxes are read at once.
const TOGETHER: usize = 4;
/// How many are taken at a time.
const TAKEN: i64 = 1;
/// How long whoever reads a mailbox has it, from the last sign of life on.
const LEASE: Duration = Duration::from_mins(5);
/// After how many mails there is one.
const STEP: usize = 20;
/// How often mailboxes that are due are looked for.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often a mailbox is read of which nothing is told.
const POLL: Duration = Duration::from_mins(5);
/// How often a log is read.
const LOG_POLL: Duration = Duration::from_mins(15);
/// How often Gmail is asked to tell of changes, which it does for a week, in seconds.
const WATCH_SECONDS: f64 = 24. * 3600.;
/// How long a mailbox waits that could not be read, at first and at most.
const WAITS: (Duration, Duration) = (Duration::from_secs(5), Duration::from_mins(30));
/// How many access tokens are kept in mind.
const TOKENS: usize = 10_000;
/// How much before its end a token is not shown any more.
const HEAD_START: Duration = Duration::from_secs(60);
/// What is read where the place is not known to Gmail any more: as long as it keeps a history.
const CATCH_UP: &str = "newer_than:7d";

/// An access token, and until when it is shown.
#[derive(Clone)]
struct Known {
    access_token: String,
    until: Instant,
}

/// Where Gmail is, and what is known of mailboxes.
pub(super) struct Mailboxes {
    /// Gmail's interface, without a slash at the end.
    gmail: String,
    /// Where access tokens are given.
    token: String,
    tokens: Cache<ChannelAccountId, Known>,
    changed: Notify,
}

/// Why a mailbox could not be read.
pub(super) enum Obstacle {
    Google(Failure),
    Twilio(StatusCode),
    TooLarge,
    Other(Error),
}

impl From<Error> for Obstacle {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}

impl From<String> for Obstacle {
    fn from(why: String) -> Self {
        Self::Other(Error::Unavailable(why.into()))
    }
}

impl Mailboxes {
    pub fn new(gmail: String, token: String) -> Self {
        Self {
            gmail,
            token,
            tokens: Cache::new(TOKENS),
            changed: Notify::new(),
        }
    }

    /// Looks at what is due now: an account may be connected anew, by another token.
    pub fn look(&self) {
        self.tokens.clear();
        self.changed.notify_one();
    }
}

/// A mailbox, and all that it takes to read it.
struct Reading<'a> {
    mailbox: &'a DueMailbox,
    access: AccountAccess,
    app: App,
}

impl Webhooks {
    /// Lets a mailbox be read now.
    ///
    /// # Errors
    /// The database cannot be reached.
    pub async fn read_mailbox(&self, account: ChannelAccountId) -> Result<(), Error> {
        self.0.tenants.mailbox_changed(account).await?;
        self.0.mailboxes.changed.notify_one();
        Ok(())
    }

    /// Reads mailboxes that are due, until the service ends.
    pub async fn read_mailboxes(&self) {
        let mut reading = JoinSet::new();
        loop {
            // One that takes long holds up no other.
            while reading.len() >= TOGETHER {
                reading.join_next().await;
            }
            while reading.try_join_next().is_some() {}
            let due = match self.0.tenants.take_mailboxes(TAKEN, LEASE).await {
                Ok(due) => due,
                Err(error) => {
                    tracing::debug!(error = %Chain(&error), "mailboxes cannot be looked up");
                    Vec::new()
                }
            };
            if due.is_empty() {
                let changed = self.0.mailboxes.changed.notified();
                let _ = tokio::time::timeout(LOOK_EVERY, changed).await;
            }
            for mailbox in due {
                let webhooks = self.clone();
                reading.spawn(async move { webhooks.read_due(mailbox).await });
            }
        }
    }

    async fn read_due(&self, mailbox: DueMailbox) {
        let account = mailbox.account_id;
        let read = self.read_one(&mailbox).await;
        let (outcome, wait, state) = match &read {
            Ok(()) if has_log(mailbox.channel) => ("read", LOG_POLL, "connected".to_owned()),
            Ok(()) => ("read", POLL, "connected".to_owned()),
            Err(obstacle) => {
                let asked = match obstacle {
                    Obstacle::Google(Failure::Later { retry_after }) => *retry_after,
                    Obstacle::Google(Failure::Disconnected(_) | Failure::Account(_)) => {
                        Some(WAITS.1)
                    }
                    _ => None,
                };
                let wait = back_off(mailbox.failures + 1, WAITS).max(asked.unwrap_or_default());
                ("failed", wait, obstacle.state())
            }
        };
        metrics::counter!("mailboxes_read_total", "outcome" => outcome).increment(1);
        if let Err(obstacle) = &read {
            tracing::warn!(channel_account.id = %account, error = obstacle.words(), "a mailbox could not be read");
        }
        let left = async {
            if !state.is_empty() {
                let tenants = &self.0.tenants;
                tenants.note_state(account, &state, clock::now()).await?;
            }
            let failed = read.is_err();
            self.0.tenants.leave_mailbox(&mailbox, wait, failed).await
        };
        if let Err(error) = left.await {
            // Its lease ends, and it is read again.
            tracing::debug!(error = %Chain(&error), "a mailbox cannot be let go");
        }
    }

    async fn read_one(&self, mailbox: &DueMailbox) -> Result<(), Obstacle> {
        let access = self.0.tenants.account_access(mailbox.account_id).await?;
        if has_log(mailbox.channel) {
            return self.read_log(mailbox, &access).await;
        }
        let apps = self
            .0
            .tenants
            .apps(Channel::Gmail, Some(mailbox.account_id.0));
        let Some(app) = apps.await?.into_iter().next() else {
            return Ok(());
        };
        let reading = Reading {
            mailbox,
            access,
            app,
        };
        let is_old = |ago: f64| ago >= WATCH_SECONDS;
        let watches = mailbox.watched_seconds_ago.is_none_or(is_old);
        // Who is not told of changes has to look all the more.
        let watched = match watches {
            true => self.watch(&reading).await,
            false => Ok(()),
        };
        let cursor = match mailbox.cursor {
            Some(cursor) => cursor,
            // It begins now: what was before is not for us.
            None => self.profile(&reading).await?,
        };
        let is_watched = watches && watched.is_ok();
        self.keep_place(mailbox, Some(cursor), is_watched).await?;
        self.follow(&reading, cursor).await?;
        watched
    }

    /// Asks Gmail to tell of changes.
    async fn watch(&self, reading: &Reading<'_>) -> Result<(), Obstacle> {
        let ChannelSettings::Gmail(settings) = &reading.access.settings else {
            return Err(Error::internal("a mailbox of another kind").into());
        };
        let wanted = json!({
            "topicName": settings.topic,
            "labelIds": ["INBOX", "SENT"],
            "labelFilterBehavior": "INCLUDE",
        });
        let content = Some(("application/json", Bytes::from(wanted.to_string())));
        let answer = self.ask_gmail(reading, "watch", Question { content }, MAX_ANSWER_BYTES);
        let watch = history::watch(&answer.await?)?;
        tracing::debug!(until = %watch.until, "a mailbox is watched");
        Ok(())
    }

    async fn profile(&self, reading: &Reading<'_>) -> Result<i64, Obstacle> {
        let answer = self.get_of_gmail(reading, "profile").await?;
        place(history::profile(&answer)?.history_id)
    }

    /// Reads what has happened since.
    async fn follow(&self, reading: &Reading<'_>, since: i64) -> Result<(), Obstacle> {
        let mut cursor = since;
        let mut page = None;
        loop {
            let kinds = ["messageAdded", "labelAdded"];
            let kinds = kinds.map(|kind| ("historyTypes", kind.to_owned()));
            let mut asked = vec![("startHistoryId", since.to_string())];
            asked.extend(kinds);
            asked.extend(page.map(|page| ("pageToken", page)));
            let answer = match self.get_of_gmail(reading, &path("history", &asked)).await {
                Err(Obstacle::Google(Failure::Gone)) => return self.catch_up(reading).await,
                answer => answer?,
            };
            let history = history::read(&answer)?;
            let ids = history.added.iter().map(|added| &added.id);
            self.bring_all(reading, ids).await?;
            if let Some(come) = history.history_id {
                cursor = cursor.max(place(come)?);
            }
            page = history.next_page;
            if page.is_none() {
                return self.keep_place(reading.mailbox, Some(cursor), false).await;
            }
        }
    }

    /// Brings mails, and keeps the mailbox meanwhile.
    async fn bring_all<'a>(
        &self,
        reading: &Reading<'_>,
        ids: impl Iterator<Item = &'a String>,
    ) -> Result<(), Obstacle> {
        for (number, id) in ids.enumerate() {
            if number % STEP == 0 {
                self.keep_place(reading.mailbox, None, false).await?;
            }
            self.bring_mail(reading, id).await?;
        }
        Ok(())
    }

    /// Keeps how far a mailbox is read, and the mailbox for longer.
    pub(super) async fn keep_place(
        &self,
        mailbox: &DueMailbox,
        cursor: Option<i64>,
        is_watched: bool,
    ) -> Result<(), Obstacle> {
        if self
            .0
            .tenants
            .mailbox_read(mailbox, cursor, is_watched, LEASE)
            .await?
        {
            return Ok(());
        }
        Err(Error::internal("somebody else reads the mailbox").into())
    }

    /// Reads all mails of the time that Gmail may have forgotten, and goes on from now.
    async fn catch_up(&self, reading: &Reading<'_>) -> Result<(), Obstacle> {
        // First the place, then the list: what comes in between is told of twice, and not never.
        let now = self.profile(reading).await?;
        let (mut all, mut page) = (Vec::new(), None);
        loop {
            let mut asked = vec![("q", CATCH_UP.to_owned()), ("maxResults", "500".to_owned())];
            asked.extend(page.map(|page| ("pageToken", page)));
            let answer = self
                .get_of_gmail(reading, &path("messages", &asked))
                .await?;
            let found = history::messages(&answer)?;
            all.extend(found.ids);
            page = found.next_page;
            if page.is_none() {
                // Gmail lists the newest first, and a question comes before its answer.
                self.bring_all(reading, all.iter().rev()).await?;
                return self.keep_place(reading.mailbox, Some(now), false).await;
            }
        }
    }

    /// Keeps a mail as a delivery, from where it is applied.
    async fn bring_mail(&self, reading: &Reading<'_>, id: &str) -> Result<(), Obstacle> {
        let asked = path(&format!("messages/{id}"), &[("format", "raw".to_owned())]);
        let question = Question::default();
        let answer = self.ask_gmail(reading, &asked, question, message::MAX_BODY_BYTES);
        let body = match answer.await {
            // Deleted meanwhile.
            Err(Obstacle::Google(Failure::Gone)) => return Ok(()),
            // It would be so for ever, and no other mail would come: it stays at Gmail.
            Err(obstacle @ (Obstacle::Google(Failure::Refused(_)) | Obstacle::TooLarge)) => {
                metrics::counter!("mails_left_total").increment(1);
                let account = reading.mailbox.account_id;
                tracing::error!(channel_account.id = %account, mail.id = id, error = obstacle.words(), "a mail cannot be read, and stays where it is");
                return Ok(());
            }
            answer => answer?,
        };
        let new = NewDelivery {
            body: asked_for(reading.app.id, body.into()),
            app: reading.app.clone(),
            channel: Channel::Gmail,
            headers: json!({"content-type": MAIL}),
            correlation_id: Uuid::now_v7().simple().to_string(),
        };
        self.take(new).await?;
        Ok(())
    }

    async fn get_of_gmail(&self, reading: &Reading<'_>, path: &str) -> Result<Vec<u8>, Obstacle> {
        self.ask_gmail(reading, path, Question::default(), MAX_ANSWER_BYTES)
            .await
    }

    /// Asks Gmail, once more with a new token if the one that is known does not hold.
    async fn ask_gmail(
        &self,
        reading: &Reading<'_>,
        path: &str,
        question: Question,
        most: usize,
    ) -> Result<Vec<u8>, Obstacle> {
        let mut is_new = false;
        loop {
            let token = self.token(reading, &mut is_new).await?;
            match self.ask_once(token, path, question.clone(), most).await {
                Err(Obstacle::Google(Failure::Unauthorized)) if !is_new => {
                    self.0.mailboxes.tokens.remove(&reading.mailbox.account_id);
                }
                answer => return answer,
            }
        }
    }

    async fn ask_once(
        &self,
        token: String,
        path: &str,
        question: Question,
        most: usize,
    ) -> Result<Vec<u8>, Obstacle> {
        let gmail = &self.0.mailboxes.gmail;
        let url = format!("{gmail}/gmail/v1/users/me/{path}");
        let hosts: Vec<_> = HostRule::of(gmail).into_iter().collect();
        let most = u64::try_from(most).map_err(Error::internal)?;
        let token = Credentials::Bearer(token);
        let client = &self.0.client;
        let reply = match client
            .call(&url, &hosts, Some(&token), question, most)
            .await
        {
            Err(FetchError::TooLarge { .. }) => return Err(Obstacle::TooLarge),
            reply => reply.map_err(|error| Chain(&error).to_string())?,
        };
        if reply.status == StatusCode::OK {
            return Ok(reply.body);
        }
        let now = clock::now().timestamp();
        Err(Obstacle::Google(Failure::of(
            reply.status,
            &reply.body,
            now,
        )))
    }

    /// The token that lets us ask, which may be a new one.
    async fn token(&self, reading: &Reading<'_>, is_new: &mut bool) -> Result<String, Obstacle> {
        let account = reading.mailbox.account_id;
        let known = self.0.mailboxes.tokens.get(&account);
        if let Some(known) = known.filter(|known| known.until > Instant::now()) {
            return Ok(known.access_token);
        }
        *is_new = true;
        let asked_at = Instant::now();
        let token = self.new_token(&reading.access).await?;
        let known = Known {
            access_token: token.access_token.clone(),
            until: asked_at + token.expires_in.saturating_sub(HEAD_START),
        };
        self.0.mailboxes.tokens.insert(account, known);
        Ok(token.access_token)
    }

    /// Asks Google for a token.
    async fn new_token(&self, access: &AccountAccess) -> Result<token::Token, Obstacle> {
        let ChannelSettings::Gmail(settings) = &access.settings else {
            return Err(Error::internal("a mailbox of another kind").into());
        };
        let form = form_urlencoded::Serializer::new(String::new())
            .append_pair("grant_type", "refresh_token")
            .append_pair("client_id", &settings.client_id)
            .append_pair("client_secret", &access.app_secret)
            .append_pair("refresh_token", &access.access_token)
            .finish();
        let content = Some(("application/x-www-form-urlencoded", Bytes::from(form)));
        let url = &self.0.mailboxes.token;
        let hosts: Vec<_> = HostRule::of(url).into_iter().collect();
        let most = u64::try_from(MAX_ANSWER_BYTES).map_err(Error::internal)?;
        let asked = self
            .0
            .client
            .call(url, &hosts, None, Question { content }, most);
        let reply = asked.await.map_err(|error| Chain(&error).to_string())?;
        if reply.status != StatusCode::OK {
            return Err(Obstacle::Google(Failure::of_token(
                reply.status,
                &reply.body,
            )));
        }
        Ok(token::read(&reply.body)?)
    }

    /// Finds out whether Google lets us read a mailbox.
    pub(super) async fn check_mailbox(&self, access: &AccountAccess) -> Finding {
        let profile = async {
            let token = self.new_token(access).await?.access_token;
            let question = Question::default();
            let asked = self.ask_once(token, "profile", question, MAX_ANSWER_BYTES);
            Ok::<_, Obstacle>(history::profile(&asked.await?)?)
        };
        let ChannelSettings::Gmail(settings) = &access.settings else {
            return Finding::Unknown("it is no mailbox at Gmail".to_owned());
        };
        match profile.await {
            Ok(profile) => match profile.mailbox {
                Some(mailbox) if mailbox != settings.address => {
                    Finding::Failed(format!("the refresh token is of `{mailbox}`"))
                }
                _ => Finding::Passed("Google lets the mailbox be read".to_owned()),
            },
            Err(
                obstacle @ (Obstacle::Other(_)
                | Obstacle::TooLarge
                | Obstacle::Google(Failure::Later { .. })),
            ) => Finding::Unknown(obstacle.words()),
            Err(obstacle) => Finding::Failed(obstacle.words()),
        }
    }
}

impl Obstacle {
    /// What the account's state is from now on, where it is another than before.
    fn state(&self) -> String {
        match self {
            Self::Google(Failure::Disconnected(reason)) => named("disconnected", reason),
            Self::Google(Failure::Account(reason)) => named("refused", reason),
            Self::Google(Failure::Unauthorized)
            | Self::Twilio(StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
                "unauthorized".to_owned()
            }
            _ => String::new(),
        }
    }

    /// What went wrong. What Google tells people may quote what was asked, and is left out.
    fn words(&self) -> String {
        match self {
            Self::Other(error) => Chain(error).to_string(),
            Self::TooLarge => "it is larger than any mail may be".to_owned(),
            Self::Twilio(status) => format!("Twilio answers {status}"),
            Self::Google(Failure::Gone) => "Gmail does not have it".to_owned(),
            Self::Google(Failure::Later { .. }) => "Gmail asks to wait".to_owned(),
            Self::Google(Failure::Refused(reason)) => named("refused", reason),
            Self::Google(_) => self.state(),
        }
    }
}

fn named(state: &str, reason: &Reason) -> String {
    match reason.code.as_str() {
        "" => state.to_owned(),
        code => format!("{state}: {code}"),
    }
}

fn path(of: &str, asked: &[(&str, String)]) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(asked);
    format!("{of}?{}", query.finish())
}

/// A place in a history as the database has it.
fn place(history_id: u64) -> Result<i64, Obstacle> {
    i64::try_from(history_id)
        .map_err(|_| "Gmail names a place beyond all numbers".to_owned().into())
}
