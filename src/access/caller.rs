//! What a credential says of its caller, and what a call asks of it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tonic::{Request, Streaming};

use crate::error::{Denial, Error};

/// The longest id of an actor, in characters.
const MAX_ID: usize = 128;
/// What this service is called where it acts itself.
const ITSELF: &str = "communication-service";

/// A request, as the proto declares its call.
pub trait Call {
    /// The call: `/communication.v1.InboxService/GetMessage`.
    const PATH: &'static str;
    /// The one scope that it needs.
    const SCOPE: Scope;
}

/// A call that takes several requests.
impl<T: Call> Call for Streaming<T> {
    const PATH: &'static str = T::PATH;
    const SCOPE: Scope = T::SCOPE;
}

/// What a credential may be allowed to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Make, change and remove tenants.
    TenantAdmin = 0,
    /// Read conversations, messages and contacts.
    InboxRead = 1,
    /// Change conversations, messages and contacts.
    InboxWrite = 2,
    /// Read quick replies, and who used them.
    QuickReplyRead = 3,
    /// Change and use quick replies.
    QuickReplyWrite = 4,
    /// Erase a person for good.
    ContactErase = 5,
    /// Hear of everything that happens, and read what it happened to.
    EventsRead = 6,
    /// Read what the actor may see of the team's chat.
    ChatRead = 7,
    /// Take part in the team's chat.
    ChatWrite = 8,
    /// See and do everything in the team's chat.
    ChatUnrestricted = 9,
}

impl Scope {
    /// All scopes.
    pub const ALL: [Self; 10] = [
        Self::TenantAdmin,
        Self::InboxRead,
        Self::InboxWrite,
        Self::QuickReplyRead,
        Self::QuickReplyWrite,
        Self::ContactErase,
        Self::EventsRead,
        Self::ChatRead,
        Self::ChatWrite,
        Self::ChatUnrestricted,
    ];

    /// Whether calls that need it may change something of a tenant.
    pub const fn writes(self) -> bool {
        !matches!(
            self,
            Self::InboxRead | Self::QuickReplyRead | Self::EventsRead | Self::ChatRead
        )
    }

    /// The scope as credentials spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TenantAdmin => "tenant.admin",
            Self::InboxRead => "inbox.read",
            Self::InboxWrite => "inbox.write",
            Self::ContactErase => "contact.erase",
            Self::EventsRead => "events.read",
            Self::ChatRead => "chat.read",
            Self::ChatWrite => "chat.write",
            Self::ChatUnrestricted => "chat.unrestricted",
            Self::QuickReplyRead => "quick_reply.read",
            Self::QuickReplyWrite => "quick_reply.write",
        }
    }
}

/// A set of scopes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Scopes(u32);

impl Scopes {
    /// Every scope.
    pub fn all() -> Self {
        Scope::ALL.into_iter().fold(Self::default(), Self::with)
    }

    /// Reads the words of a `scope` claim; words that are not ours mean nothing here.
    pub fn from_words(words: &str) -> Self {
        let known = |word: &str| Scope::ALL.into_iter().find(|scope| scope.as_str() == word);
        words
            .split_ascii_whitespace()
            .filter_map(known)
            .fold(Self::default(), Self::with)
    }

    /// The set with one more.
    #[must_use]
    pub fn with(self, scope: Scope) -> Self {
        Self(self.0 | 1 << scope as u32)
    }

    /// Tells whether a scope is in the set.
    pub fn has(self, scope: Scope) -> bool {
        self.0 & (1 << scope as u32) != 0
    }
}

/// The tenants that a credential is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tenants {
    /// All of them.
    All,
    /// These, by slug.
    Named(BTreeSet<String>),
}

/// Who calls, as the credential proves it.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The calling service.
    pub service: String,
    /// The user, where the credential is a user's own.
    pub user_id: Option<String>,
    /// What the credential allows.
    pub scopes: Scopes,
    /// Which tenants it is for.
    pub tenants: Tenants,
    /// When it ends, in seconds since 1970, where it does.
    pub expires: Option<u64>,
    /// Whether the key that signed it is still believed, where that may end.
    pub key_holds: Option<Arc<AtomicBool>>,
}

impl Caller {
    /// Who calls without a credential, on loopback in development: the service `local`, which may
    /// do everything.
    pub fn local() -> Self {
        Self {
            service: "local".to_owned(),
            user_id: None,
            scopes: Scopes::all(),
            tenants: Tenants::All,
            expires: None,
            key_holds: None,
        }
    }

    /// Who calls by webhook: a provider, in the tenant of its account, for the inbox alone.
    pub fn provider(channel: &str) -> Self {
        Self {
            service: format!("webhook.{channel}"),
            user_id: None,
            scopes: Scopes::default().with(Scope::InboxWrite),
            tenants: Tenants::Named(BTreeSet::new()),
            expires: None,
            key_holds: None,
        }
    }

    /// This service itself, in the inbox of a tenant, when something is due.
    pub fn itself() -> Self {
        Self {
            service: ITSELF.to_owned(),
            user_id: None,
            scopes: Scopes::default().with(Scope::InboxWrite),
            tenants: Tenants::Named(BTreeSet::new()),
            expires: None,
            key_holds: None,
        }
    }

    /// Who has called before, when what they asked for is due.
    pub fn before(service: &str) -> Self {
        Self {
            service: service.to_owned(),
            ..Self::itself()
        }
    }

    /// Tells whether the credential has ended at a time, in seconds since 1970: it has expired, or
    /// its key is not believed any more.
    pub fn has_ended(&self, now: u64) -> bool {
        let key_holds = |holds: &Arc<AtomicBool>| holds.load(Ordering::Relaxed);
        self.expires.is_some_and(|expires| expires <= now)
            || !self.key_holds.as_ref().is_none_or(key_holds)
    }

    /// Checks that the credential has a scope.
    ///
    /// # Errors
    /// It does not.
    pub fn check_scope(&self, scope: Scope) -> Result<(), Error> {
        if self.scopes.has(scope) {
            return Ok(());
        }
        Err(Error::PermissionDenied(Denial::Scope(scope.as_str())))
    }

    /// Checks that the credential is for a tenant.
    ///
    /// # Errors
    /// It is not.
    pub fn check_tenant(&self, slug: &str) -> Result<(), Error> {
        match &self.tenants {
            Tenants::All => Ok(()),
            Tenants::Named(slugs) if slugs.contains(slug) => Ok(()),
            Tenants::Named(_) => Err(Error::PermissionDenied(Denial::Tenant(slug.to_owned()))),
        }
    }

    /// Checks that the credential is for all tenants.
    ///
    /// # Errors
    /// It is not.
    pub fn check_all_tenants(&self) -> Result<(), Error> {
        match &self.tenants {
            Tenants::All => Ok(()),
            Tenants::Named(_) => Err(Error::PermissionDenied(Denial::Tenant("*".to_owned()))),
        }
    }

    /// Returns who acts: the actor named, whom a user's own credential must match, or else the
    /// user or service itself.
    ///
    /// # Errors
    /// A user's own credential named somebody else.
    pub fn actor(&self, named: Option<Actor>) -> Result<Actor, Error> {
        match (named, &self.user_id) {
            (None, None) => Ok(Actor::Service(self.service.clone())),
            (None, Some(user)) => Ok(Actor::User(user.clone())),
            (Some(actor), None) => Ok(actor),
            (Some(Actor::User(named)), Some(user)) if named == *user => Ok(Actor::User(named)),
            (Some(_), Some(_)) => Err(Error::PermissionDenied(Denial::Actor)),
        }
    }
}

/// Who acts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Actor {
    /// A person.
    User(String),
    /// An automation.
    Bot(String),
    /// A backend service.
    Service(String),
}

impl Actor {
    /// Tells whether an actor, of any kind, can have this id: 1 to 128 characters, none of them
    /// control.
    pub fn may_be_called(id: &str) -> bool {
        (1..=MAX_ID).contains(&id.chars().count()) && !id.contains(char::is_control)
    }

    /// Reads what the database holds.
    pub fn of_kind(kind: &str, id: String) -> Option<Self> {
        match kind {
            "user" => Some(Self::User(id)),
            "bot" => Some(Self::Bot(id)),
            "service" => Some(Self::Service(id)),
            _ => None,
        }
    }

    /// The kind, as the database holds it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::User(_) => "user",
            Self::Bot(_) => "bot",
            Self::Service(_) => "service",
        }
    }

    /// The user, if it is one.
    pub fn user_id(&self) -> Option<&str> {
        match self {
            Self::User(id) => Some(id),
            Self::Bot(_) | Self::Service(_) => None,
        }
    }

    /// The id within the kind.
    pub fn id(&self) -> &str {
        match self {
            Self::User(id) | Self::Bot(id) | Self::Service(id) => id,
        }
    }
}

/// What is known of a call before its request is read. The server's outermost layer leaves it in
/// the extensions of every request.
#[derive(Debug, Clone)]
pub struct CallContext {
    /// Who calls.
    pub caller: Arc<Caller>,
    /// What ties the call to everything that comes of it.
    pub correlation_id: Arc<str>,
    /// How many seconds the database's clock is to be ahead: 0, but for rehearsals.
    pub clock_offset: i64,
}

/// Who did it: recorded with every change.
#[derive(Debug, Clone)]
pub struct Facts {
    /// Who acts.
    pub actor: Actor,
    /// The calling service.
    pub caller: Arc<Caller>,
    /// What ties the call to everything that comes of it.
    pub correlation_id: Arc<str>,
    /// How many seconds the database's clock is to be ahead: 0, but for rehearsals.
    pub clock_offset: i64,
    /// The call, if it may go past what the actor may see and do in channels.
    pub unrestricted: Option<&'static str>,
}

impl Facts {
    /// The service itself does it, of its own accord.
    pub fn itself(correlation_id: impl Into<Arc<str>>) -> Self {
        let caller = Caller::itself();
        Self {
            actor: Actor::Service(caller.service.clone()),
            caller: Arc::new(caller),
            correlation_id: correlation_id.into(),
            clock_offset: 0,
            unrestricted: None,
        }
    }
}

/// Lets a call in whose credential has the scope that the call declares.
///
/// # Errors
/// There is no credential, or it lacks the scope.
pub fn admit<T: Call>(request: Request<T>) -> Result<(CallContext, T), Error> {
    let (_, mut extensions, request) = request.into_parts();
    let context: CallContext = extensions.remove().ok_or(Error::Unauthenticated)?;
    context.caller.check_scope(T::SCOPE)?;
    Ok((context, request))
}
