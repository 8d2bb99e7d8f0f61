//! What a server knows of widgets: which there are, who may call, and how often.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::HeaderMap;
use http::header::{AUTHORIZATION, ORIGIN};
use quick_cache::sync::Cache;
use tokio::sync::Semaphore;

use super::limit::Limits;
use super::refusal::Refusal;
use super::session::{Session, Sessions};
use crate::channel::Channel;
use crate::config::WidgetConfig;
use crate::error::Error;
use crate::master_key::{MasterKey, MasterKeyError};
use crate::tenant::{TenantDirectory, TenantScope, Widget};

/// How many widgets, or tokens of none, are kept in mind, and how many origins.
const KEPT: usize = 1024;
/// How many files may come from visitors at once, and go to them: far fewer than all files of all
/// tenants may, so that visitors leave places to agents.
const UPLOADS: usize = 8;
const DOWNLOADS: usize = 64;
/// How long a widget is believed to be as it was read.
const FRESH: Duration = Duration::from_millis(500);
/// How long an origin is believed to be of a page of ours, or not. A browser keeps it for longer.
const ORIGIN_FRESH: Duration = Duration::from_secs(2);

/// Takes calls of visitors.
#[derive(Clone)]
pub struct Widgets(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub(super) tenants: TenantDirectory,
    pub(super) sessions: Sessions,
    pub(super) limits: Limits,
    /// The most bytes of one file.
    pub(super) most_bytes: u64,
    pub(super) proxies: u8,
    /// How many files may come from visitors at once.
    pub(super) uploads: Arc<Semaphore>,
    /// How many may go to them.
    pub(super) downloads: Arc<Semaphore>,
    widgets: Cache<String, (Instant, Option<Arc<Widget>>)>,
    origins: Cache<String, (Instant, bool)>,
}

/// What widgets are served with.
pub struct WidgetsOptions<'a> {
    /// Whose they are.
    pub tenants: TenantDirectory,
    /// What sessions are sealed under.
    pub key: &'a MasterKey,
    /// What visitors may do.
    pub config: &'a WidgetConfig,
    /// The most bytes of one file of anybody.
    pub attachment_bytes: u64,
    /// How many proxies stand in front of us.
    pub proxies: u8,
    /// How many visitors may listen at once.
    pub streams: usize,
}

/// A visitor who may call.
pub(super) struct Visit {
    /// The widget.
    pub widget: Arc<Widget>,
    /// Their session.
    pub session: Session,
}

impl Visit {
    /// Refuses who has to be a user of the page to write, and is not.
    pub fn check_may_write(&self) -> Result<(), Refusal> {
        if self.widget.settings.identity_required && self.session.user_id.is_none() {
            return Err(Refusal::IdentityRequired);
        }
        Ok(())
    }
}

impl Widgets {
    /// Serves the widgets of a directory.
    ///
    /// # Errors
    /// The library of the keys refused.
    pub fn new(options: WidgetsOptions<'_>) -> Result<Self, MasterKeyError> {
        let config = options.config;
        let lifetime = Duration::from_secs(config.session_seconds);
        Ok(Self(Arc::new(Inner {
            tenants: options.tenants,
            sessions: Sessions::new(options.key, lifetime)?,
            limits: Limits::new(config, options.streams),
            most_bytes: config.upload_bytes.min(options.attachment_bytes),
            proxies: options.proxies,
            uploads: Arc::new(Semaphore::new(UPLOADS)),
            downloads: Arc::new(Semaphore::new(DOWNLOADS)),
            widgets: Cache::new(KEPT),
            origins: Cache::new(KEPT),
        })))
    }

    /// Finds the open widget of a token, if a page may call it.
    pub(super) async fn find(
        &self,
        token: &str,
        origin: Option<&str>,
    ) -> Result<Arc<Widget>, Refusal> {
        let widget = self.read(token).await?.ok_or(Refusal::Widget)?;
        if !widget.allows(origin) {
            return Err(Refusal::Origin);
        }
        if !widget.is_open() {
            return Err(Refusal::Widget);
        }
        Ok(widget)
    }

    async fn read(&self, token: &str) -> Result<Option<Arc<Widget>>, Error> {
        if let Some((read_at, widget)) = self.0.widgets.get(token)
            && read_at.elapsed() < FRESH
        {
            return Ok(widget);
        }
        let read_at = Instant::now();
        let widget = self.0.tenants.widget(token).await?.map(Arc::new);
        // Also that there is none: what strangers make up costs no query each time.
        let kept = (read_at, widget.clone());
        self.0.widgets.insert(token.to_owned(), kept);
        Ok(widget)
    }

    /// Tells whether an origin is that of a page of any widget. An address that has named many that
    /// are not is told what is known already.
    pub(super) async fn is_known(&self, origin: &str, caller: u128) -> Result<bool, Error> {
        let strangers = &self.0.limits.strangers;
        if let Some((read_at, is_known)) = self.0.origins.get(origin)
            && (read_at.elapsed() < ORIGIN_FRESH || strangers.is_used_up(caller))
        {
            return Ok(is_known);
        }
        if strangers.is_used_up(caller) {
            return Ok(false);
        }
        let read_at = Instant::now();
        let is_known = self.0.tenants.is_widget_origin(origin).await?;
        if !is_known {
            // It was asked; the next one is not.
            let _ = strangers.take(caller);
        }
        self.0
            .origins
            .insert(origin.to_owned(), (read_at, is_known));
        Ok(is_known)
    }

    /// Lets in who has a session, from where it was opened.
    pub(super) async fn enter(&self, headers: &HeaderMap) -> Result<Visit, Refusal> {
        self.enter_with(bearer(headers), headers).await
    }

    /// Lets in who has the token of a session, from where it was opened.
    pub(super) async fn enter_with(
        &self,
        token: Option<&str>,
        headers: &HeaderMap,
    ) -> Result<Visit, Refusal> {
        let origin = origin(headers)?;
        let token = token.ok_or(Refusal::NoSession)?;
        let session = self.0.sessions.open(token).ok_or(Refusal::NoSession)?;
        if session.origin.as_deref() != origin {
            return Err(Refusal::Origin);
        }
        let widget = self.widget_of(&session).await?;
        Ok(Visit { widget, session })
    }

    /// Tells whether a session is none any more, or its widget is closed.
    pub(super) async fn has_ended(&self, session: &Session) -> bool {
        match self.widget_of(session).await {
            // Whoever is let in stays while nothing can be looked up.
            Ok(_) | Err(Refusal::Unavailable | Refusal::Internal) => false,
            Err(_) => true,
        }
    }

    /// The open widget of a session that lasts.
    async fn widget_of(&self, session: &Session) -> Result<Arc<Widget>, Refusal> {
        let origin = session.origin.as_deref();
        let widget = self.find(&session.widget_token, origin).await?;
        let route = &widget.route;
        if (route.tenant_id, route.account) != (session.tenant_id, session.account) {
            return Err(Refusal::NoSession);
        }
        if !session.lasts() {
            return Err(Refusal::SessionOver);
        }
        Ok(widget)
    }

    /// Work inside the tenant of a widget.
    pub(super) async fn scope(
        &self,
        widget: &Widget,
        correlation_id: &str,
    ) -> Result<TenantScope, Error> {
        let route = &widget.route;
        let tenants = &self.0.tenants;
        tenants
            .enter_account(route, Channel::Web, correlation_id)
            .await
    }
}

/// The origin that a request names; none of an app.
pub(super) fn origin(headers: &HeaderMap) -> Result<Option<&str>, Refusal> {
    let mut all = headers.get_all(ORIGIN).iter();
    match (all.next(), all.next()) {
        (None, _) => Ok(None),
        (Some(origin), None) => {
            let origin = origin.to_str().map_err(|_| Refusal::Origin)?;
            Ok(Some(origin))
        }
        (Some(_), Some(_)) => Err(Refusal::Origin),
    }
}

/// The one token that a request has.
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut all = headers.get_all(AUTHORIZATION).iter();
    let (only, None) = (all.next()?, all.next()) else {
        return None;
    };
    let (scheme, token) = only.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}
