//! Who may hear of an event: judged when it is sent, by who is a member of its channel then, however
//! long ago it was.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::time::Instant;

use super::told::Told;
use crate::access::Actor;
use crate::chat;
use crate::error::Error;
use crate::ids::ChannelId;
use crate::pb::event::Resource;
use crate::tenant::TenantConn;

/// Who may hear of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Audience {
    /// Whoever hears of anything.
    Everybody,
    /// Who sees a channel: everybody, if that is public.
    Channel {
        /// The channel.
        id: ChannelId,
        /// Whether it is public.
        is_public: bool,
        /// The one of them who alone may.
        alone: Option<Actor>,
    },
    /// One alone.
    Alone(Actor),
    /// A user, and whoever acts for no user.
    Own(String),
    /// Nobody, because it is not known any more whose it was.
    Nobody,
}

/// The channels that a user is a member of, as far as the log has been read.
#[derive(Debug, Default)]
pub struct OwnChannels(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    /// When they were last loaded, if they are.
    loaded_at: Option<Instant>,
    /// The version of each membership, and whether it still is one.
    memberships: HashMap<ChannelId, (i64, bool)>,
}

impl OwnChannels {
    /// Tells whether the user is a member of a channel.
    pub fn has(&self, id: ChannelId) -> bool {
        let known = self.known();
        known.memberships.get(&id).is_some_and(|(_, lasts)| *lasts)
    }

    fn loaded_at(&self) -> Option<Instant> {
        self.known().loaded_at
    }

    /// Takes note of a membership, unless a newer version of it is known.
    fn note(&self, id: ChannelId, version: i64, lasts: bool) {
        let mut known = self.known();
        let membership = known.memberships.entry(id).or_insert((0, false));
        if membership.0 < version {
            *membership = (version, lasts);
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long ago that may be known as of which is judged by who is a member of a channel: what is judged has
/// to be sent within a second of a loss.
const RECENT: Duration = Duration::from_millis(800);

/// The channels of all users who listen in a tenant.
#[derive(Default)]
pub struct Memberships {
    users: Mutex<HashMap<String, Weak<OwnChannels>>>,
    /// As of when everything is noted that the log tells of them.
    noted_at: Mutex<Option<Instant>>,
    /// Held by who reads them.
    loading: tokio::sync::Mutex<()>,
}

impl Memberships {
    /// Those of a user. What the log tells of them from now on is noted; what was before has to be
    /// loaded.
    pub fn of(&self, user_id: &str) -> Arc<OwnChannels> {
        let mut users = self.users();
        if let Some(known) = users.get(user_id).and_then(Weak::upgrade) {
            return known;
        }
        users.retain(|_, channels| channels.strong_count() > 0);
        let channels = Arc::<OwnChannels>::default();
        users.insert(user_id.to_owned(), Arc::downgrade(&channels));
        channels
    }

    /// Takes note of what the log tells of memberships.
    pub fn note(&self, told: &Told) {
        let Some(Resource::ChannelMember(member)) = &told.event.resource else {
            return;
        };
        let known = self.users().get(&member.user_id).and_then(Weak::upgrade);
        if let (Some(channels), Some(id)) = (known, told.entry.parent_id) {
            let lasts = member.leave_time.is_none();
            channels.note(ChannelId(id), member.version, lasts);
        }
    }

    /// Takes note that the log has been read to its end, as of a time.
    pub fn noted_to(&self, time: Instant) {
        *self.noted_at() = Some(time);
    }

    /// Tells whether those of a user are known as of a moment before a time.
    fn knows(&self, of: &OwnChannels, time: Instant) -> bool {
        let Some(loaded_at) = of.loaded_at() else {
            return false;
        };
        Some(loaded_at).max(*self.noted_at()) >= time.checked_sub(RECENT)
    }

    /// Sees to it that those of a user are known as of a moment ago. If the log has not been read since, they
    /// are loaded, and with them those of all others of whom that is not known.
    pub async fn know(
        &self,
        of: &OwnChannels,
        conn: impl AsyncFnOnce() -> Result<TenantConn, Error>,
    ) -> Result<(), Error> {
        let asked = Instant::now();
        if self.knows(of, asked) {
            return Ok(());
        }
        let _one_at_a_time = self.loading.lock().await;
        // Whoever had the lock has loaded them, too.
        if self.knows(of, asked) {
            return Ok(());
        }
        let waiting: HashMap<_, _> = {
            let users = self.users();
            let users = users.iter();
            let alive = users.filter_map(|(id, channels)| Some((id.clone(), channels.upgrade()?)));
            alive
                .filter(|(_, channels)| !self.knows(channels, asked))
                .collect()
        };
        let ids: Vec<_> = waiting.keys().map(String::as_str).collect();
        let mut conn = conn().await?;
        let began = Instant::now();
        for member in chat::memberships(&mut conn, &ids).await? {
            if let Some(channels) = waiting.get(&member.user_id) {
                let lasts = member.left_at.is_none();
                channels.note(member.channel_id, member.version, lasts);
            }
        }
        for channels in waiting.values() {
            channels.known().loaded_at = Some(began);
        }
        Ok(())
    }

    /// Forgets what is known: the log has another history.
    pub fn forget(&self) {
        for channels in self.users().values().filter_map(Weak::upgrade) {
            *channels.known() = Known::default();
        }
    }

    fn noted_at(&self) -> MutexGuard<'_, Option<Instant>> {
        self.noted_at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn users(&self) -> MutexGuard<'_, HashMap<String, Weak<OwnChannels>>> {
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who listens.
#[derive(Debug)]
pub struct Viewer {
    /// Who acts.
    pub actor: Actor,
    /// Their channels, if they are a user.
    pub own: Option<Arc<OwnChannels>>,
    /// Whether they may hear of all channels.
    pub unrestricted: bool,
}

impl Viewer {
    /// Tells whether they may hear of something.
    pub fn hears(&self, audience: &Audience) -> bool {
        match audience {
            Audience::Everybody => true,
            Audience::Channel {
                id,
                is_public,
                alone,
            } => {
                (*is_public || self.sees(*id))
                    && alone.as_ref().is_none_or(|one| self.actor == *one)
            }
            Audience::Alone(one) => self.actor == *one,
            Audience::Own(user) => self.actor.user_id().is_none_or(|acting| acting == user),
            Audience::Nobody => false,
        }
    }

    /// Tells whether that depends on who is a member now; returns their channels if it does.
    pub fn judged_by(&self, audience: &Audience) -> Option<&Arc<OwnChannels>> {
        match audience {
            Audience::Channel {
                is_public: false, ..
            } if !self.unrestricted => self.own.as_ref(),
            _ => None,
        }
    }

    /// Tells whether an event is of their coming into a channel that is not public, or their leaving
    /// it; returns the channel, and whether they see it now.
    pub fn gains_or_loses(&self, told: &Told) -> Option<(ChannelId, bool)> {
        let Some(Resource::ChannelMember(member)) = &told.event.resource else {
            return None;
        };
        let is_change = matches!(
            told.entry.kind.as_str(),
            "channel_member.created" | "channel_member.deleted"
        );
        match &told.audience {
            Audience::Channel {
                id,
                is_public: false,
                ..
            } if is_change && self.actor.user_id() == Some(&member.user_id) => {
                Some((*id, self.sees(*id)))
            }
            _ => None,
        }
    }

    fn sees(&self, id: ChannelId) -> bool {
        self.unrestricted || self.own.as_ref().is_some_and(|own| own.has(id))
    }
}
