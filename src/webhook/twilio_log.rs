//! Reads Twilio's log for what did not come: Twilio tells of a message once, and who was away then
//! hears of it nowhere else.
//!
//! The log is read from an hour before where it was read to, every quarter of an hour. What is new in
//! it becomes a delivery, and goes the way of every delivery from there.

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use http::StatusCode;
use serde_json::json;
use uuid::Uuid;

use super::mailbox::Obstacle;
use super::new_delivery::NewDelivery;
use super::quarantine;
use super::verified::asked_for;
use super::webhooks::Webhooks;
use crate::channel::Channel;
use crate::clock;
use crate::error::{Chain, Error};
use crate::guarded_client::{Credentials, HostRule, Question};
use crate::inbox::known;
use crate::provider::twilio::log::{Entry, Log, MAX_PAGE_BYTES};
use crate::tenant::{AccountAccess, App, ChannelSettings, DueMailbox, Route, Sought};

/// How far back before the place the log is read again: entries can be late.
const OVERLAP: TimeDelta = TimeDelta::hours(1);
/// How long the webhook of an entry has to come: what it says is more, and must not come second.
const SETTLED: TimeDelta = TimeDelta::minutes(10);
/// How long something may have been told of before it was sent, by clocks that differ.
const SLACK: TimeDelta = TimeDelta::hours(1);
/// How many entries are put in order before they are taken in.
const MOST_TOGETHER: usize = 10_000;
/// After how many of them there is a sign of life.
const STEP: usize = 20;
/// Where a call that is over can stand.
const ENDS: [&str; 5] = ["completed", "busy", "no-answer", "canceled", "failed"];

/// A log, and all that it takes to read it.
struct Reading<'a> {
    mailbox: &'a DueMailbox,
    access: &'a AccountAccess,
    app: App,
    route: Route,
    log: Log,
    account_sid: &'a str,
    since: DateTime<Utc>,
    until: DateTime<Utc>,
}

impl Webhooks {
    /// Reads the log of an account.
    pub(super) async fn read_log(
        &self,
        mailbox: &DueMailbox,
        access: &AccountAccess,
    ) -> Result<(), Obstacle> {
        let (log, account_sid, number) = match &access.settings {
            ChannelSettings::TwilioWhatsapp(of) => {
                (Log::Messages, &of.account_sid, &of.phone_number)
            }
            ChannelSettings::TwilioCall(of) => (Log::Calls, &of.account_sid, &of.phone_number),
            _ => return Err(Error::internal("a log of another kind").into()),
        };
        let now = clock::now();
        let Some(since) = mailbox
            .cursor
            .and_then(|cursor| DateTime::from_timestamp(cursor, 0))
        else {
            // It begins now: what was before is not for us.
            return self.keep_place(mailbox, Some(now.timestamp()), false).await;
        };
        let (tenants, id) = (&self.0.tenants, mailbox.account_id);
        let app = tenants.apps(mailbox.channel, Some(id.0)).await?.pop();
        let key = access.settings.route_key();
        let routes = tenants
            .routes(&Sought::named(mailbox.channel, &key))
            .await?;
        let (Some(app), Some(route)) = (app, routes.named(&key).cloned()) else {
            return Ok(());
        };
        let mut conn = tenants.directory_conn().await?;
        let place = (mailbox.channel, key.as_str());
        if quarantine::waits(&mut conn, app.id, place).await? {
            // What came says more than the log, and comes first.
            return Ok(());
        }
        drop(conn);
        let reading = Reading {
            mailbox,
            access,
            app,
            route,
            log,
            account_sid,
            since: since - OVERLAP,
            until: now - SETTLED,
        };
        let mut next = Some(log.path(account_sid, number, reading.since));
        let mut missed = Vec::new();
        while let Some(path) = next {
            let page = self.ask_twilio(&reading, &path).await?;
            let page = log.read(account_sid, &page)?;
            // Pages begin with the newest.
            let is_last = page.entries.last().and_then(|entry| entry.at);
            let is_last = is_last.is_some_and(|at| at < reading.since);
            missed.extend(self.missed(&reading, page.entries).await?);
            if missed.len() >= MOST_TOGETHER {
                self.recover(&reading, std::mem::take(&mut missed)).await?;
            }
            self.keep_place(mailbox, None, false).await?;
            next = page.next.filter(|_| !is_last);
        }
        self.recover(&reading, missed).await?;
        self.keep_place(mailbox, Some(now.timestamp()), false).await
    }

    /// What of a page did not come.
    async fn missed(
        &self,
        reading: &Reading<'_>,
        entries: Vec<Entry>,
    ) -> Result<Vec<Entry>, Obstacle> {
        let over = |entry: &Entry| reading.log == Log::Messages || ENDS.contains(&&*entry.status);
        let span = reading.since..=reading.until;
        let in_time = |entry: &Entry| entry.at.is_some_and(|at| span.contains(&at));
        let entries = entries.into_iter();
        let mut entries: Vec<Entry> = entries
            .filter(|entry| over(entry) && in_time(entry))
            .collect();
        if entries.is_empty() {
            return Ok(entries);
        }
        let sids: Vec<String> = entries.iter().map(|entry| entry.sid.clone()).collect();
        let id = Uuid::now_v7().simple().to_string();
        let channel = reading.mailbox.channel;
        let scope = self.0.tenants.enter_account(&reading.route, channel, &id);
        let mut conn = scope.await?.conn().await?;
        let account = reading.mailbox.account_id;
        let known = known(&mut conn, account, &sids, reading.since - SLACK).await?;
        entries.retain(|entry| match known.get(&entry.sid) {
            None => true,
            // Of a call that is known, its end may have been missed.
            Some(Some(status)) => reading.log == Log::Calls && *status != entry.status,
            Some(None) => false,
        });
        Ok(entries)
    }

    /// Takes in what did not come, the oldest first, as it would have.
    async fn recover(&self, reading: &Reading<'_>, missed: Vec<Entry>) -> Result<(), Obstacle> {
        let channel = reading.mailbox.channel;
        for (number, mut entry) in missed.into_iter().rev().enumerate() {
            if let Some(path) = entry.media.take() {
                match self.ask_twilio(reading, &path).await {
                    Ok(files) => entry.add_files(self.twilio(), &files),
                    // Better without its files than not at all.
                    Err(Obstacle::Twilio(status)) if is_of_entry(status) => {}
                    Err(obstacle) => return Err(obstacle),
                }
            }
            metrics::counter!("webhooks_recovered_total", "channel" => channel.as_str())
                .increment(1);
            let new = NewDelivery {
                body: asked_for(reading.app.id, entry.into_body().into()),
                app: reading.app.clone(),
                channel,
                headers: json!({"content-type": "application/json"}),
                correlation_id: Uuid::now_v7().simple().to_string(),
            };
            self.take(new).await?;
            if number % STEP == STEP - 1 {
                self.keep_place(reading.mailbox, None, false).await?;
            }
        }
        Ok(())
    }

    async fn ask_twilio(&self, reading: &Reading<'_>, path: &str) -> Result<Bytes, Obstacle> {
        let api = self.twilio();
        let url = format!("{api}{path}");
        let hosts: Vec<_> = HostRule::of(api).into_iter().collect();
        let credentials = Credentials::Basic {
            user: reading.account_sid.to_owned(),
            password: reading.access.app_secret.clone(),
        };
        let (client, question) = (&self.0.client, Question::default());
        let asked = client.call(&url, &hosts, Some(&credentials), question, MAX_PAGE_BYTES);
        let reply = asked.await.map_err(|error| Chain(&error).to_string())?;
        match reply.status {
            StatusCode::OK => Ok(reply.body.into()),
            status => Err(Obstacle::Twilio(status)),
        }
    }

    fn twilio(&self) -> &str {
        &self.0.fetchers.interfaces.twilio
    }
}

/// Whether a refusal is of what was asked for alone, and will stay.
fn is_of_entry(status: StatusCode) -> bool {
    status.is_client_error() && !matches!(status.as_u16(), 401 | 403 | 408 | 429)
}

/// Whether the log of a channel is read.
pub(super) fn has_log(channel: Channel) -> bool {
    matches!(channel, Channel::TwilioWhatsapp | Channel::TwilioCall)
}
