//! What a visitor is sent as it happens, as server-sent events: the messages that they may fetch.
//!
//! It is the tenant's stream of events, of which this leaves out what is not theirs. The tenant's log
//! is read once for all visitors; of a visitor alone is read who they are, at the beginning and when
//! that may have changed.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::{Request, State};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use futures_util::stream::{self, BoxStream};
use futures_util::{Stream, StreamExt as _};
use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::limit::Place as Taken;
use super::message::shown;
use super::refusal::Refusal;
use super::service::{address, call_id, parameter, within};
use super::session::Session;
use super::widgets::{Visit, Widgets, bearer};
use crate::access::{Caller, Facts};
use crate::error::Error;
use crate::event::{Customer, Events, Frame, Place, Start, Tokens, Told};
use crate::inbox::visitor::{self, Seen, Talks};
use crate::pb;
use crate::pb::event::Resource;
use crate::server::Connection;
use crate::tenant::TenantScope;

/// Carries the id of the last event that the browser has heard, when it comes back.
const LAST_EVENT_ID: &str = "last-event-id";
/// Tells a proxy to pass each event on at once.
const UNBUFFERED: (HeaderName, HeaderValue) = (
    HeaderName::from_static("x-accel-buffering"),
    HeaderValue::from_static("no"),
);
/// After how long a browser comes back.
const RETRY: Duration = Duration::from_secs(1);
/// After how long without an event it is told that the stream goes on.
const QUIET: Duration = Duration::from_secs(15);
/// How often it is looked whether the widget is still open.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// The fields of a message whose changes a visitor does not see.
const UNSEEN: [&str; 3] = ["status", "reactions", "reply_to_message_id"];

/// Answers with the stream of a visitor.
pub async fn open(
    State(widgets): State<Widgets>,
    Extension(events): Extension<Events>,
    request: Request,
) -> Result<Response, Refusal> {
    let (headers, uri) = (request.headers(), request.uri());
    // What a page opens a stream with sends no headers of its own.
    let session = parameter(uri, "session");
    let token = bearer(headers).or(session.as_deref());
    let Visit { widget, session } = widgets.enter_with(token, headers).await?;
    let limits = &widgets.0.limits;
    within(limits.reads.take(session.key()))?;
    let places = [
        limits.streams.take(0)?,
        limits.visitor_streams.take(session.key())?,
        limits.address_streams.take(address(&widgets, &request))?,
    ];
    let scope = widgets.scope(&widget, &call_id(&request)).await?;
    let scope = until(&scope, session.ends());
    let tokens = Tokens::of(&scope, widgets.0.tenants.page_sealer());
    // The address stays as it was when the browser comes back, the header does not.
    let last = last_event_id(headers).or_else(|| parameter(uri, "last_event_id"));
    let place = last.as_ref().map(|token| tokens.place(token));
    if let Some(connection) = request.extensions().get::<Arc<Connection>>() {
        connection.stream();
    }
    let mut look = interval(LOOK_EVERY);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut watch = Watch {
        widgets: widgets.clone(),
        events,
        session,
        scope,
        tokens,
        place: place.flatten(),
        resets: matches!(place, Some(None)),
        known: None,
        frames: None,
        ready: VecDeque::new(),
        look,
        is_over: false,
        _places: places,
    };
    // What the page loads once the stream is open, it has without a gap.
    watch.begin().await?;
    if watch.is_over {
        return Err(Refusal::SessionOver);
    }
    let alive = KeepAlive::new().interval(QUIET).text("keepalive");
    let stream = Sse::new(watch.sent()).keep_alive(alive);
    Ok(([UNBUFFERED], stream).into_response())
}

fn last_event_id(headers: &HeaderMap) -> Option<String> {
    let last = headers.get(LAST_EVENT_ID)?.to_str().ok()?;
    (!last.is_empty()).then(|| last.to_owned())
}

/// The same work, which ends with the session.
fn until(scope: &TenantScope, ends: u64) -> TenantScope {
    let facts = scope.facts();
    scope.on_behalf(Facts {
        caller: Arc::new(Caller {
            expires: Some(ends),
            ..(*facts.caller).clone()
        }),
        ..Facts::clone(facts)
    })
}

/// A visitor who listens.
struct Watch {
    widgets: Widgets,
    events: Events,
    session: Session,
    scope: TenantScope,
    tokens: Tokens,
    /// Behind which everything comes; none before the stream has begun, with the present.
    place: Option<Place>,
    /// Whether the visitor has to load anew what is there.
    resets: bool,
    /// Who they are, since it was last looked.
    known: Option<Talks>,
    /// What comes; none while it has to be looked who they are.
    frames: Option<BoxStream<'static, Result<Frame, Error>>>,
    /// What is to be sent.
    ready: VecDeque<Event>,
    look: Interval,
    is_over: bool,
    _places: [Taken; 3],
}

impl Watch {
    /// What is sent, until the session, the widget or the server ends; also when something is in the
    /// way: the browser comes back by itself, and to where it was.
    fn sent(self) -> impl Stream<Item = Result<Event, Infallible>> + Send {
        stream::unfold(self, async |mut watch| {
            loop {
                if let Some(event) = watch.ready.pop_front() {
                    return Some((Ok(event), watch));
                }
                if watch.is_over {
                    return None;
                }
                if let Err(error) = watch.go_on().await {
                    tracing::debug!(%error, "the stream of a visitor ends");
                    return None;
                }
            }
        })
    }

    async fn go_on(&mut self) -> Result<(), Error> {
        let Some(frames) = &mut self.frames else {
            return self.begin().await;
        };
        let next = tokio::select! {
            next = frames.next() => next,
            _ = self.look.tick() => {
                self.is_over = self.widgets.has_ended(&self.session).await;
                return Ok(());
            }
        };
        match next {
            Some(frame) => self.take(frame?),
            None => {
                self.is_over = true;
                Ok(())
            }
        }
    }

    /// Looks who the visitor is, and goes on from its place.
    async fn begin(&mut self) -> Result<(), Error> {
        let is_first = self.known.is_none();
        let place = match self.place {
            Some(place) => place,
            // The present first, and then what is there by then: nothing is between them.
            None => match self.follow(Start::Now, Talks::default()).next().await {
                Some(Ok(Frame::Hello(place, _))) => place,
                Some(Err(error)) => return Err(error),
                _ => return Err(Error::Draining),
            },
        };
        self.place = Some(place);
        let mut conn = self.scope.conn().await?;
        let talks = visitor::talks(&mut conn, &self.session.visitor()).await?;
        drop(conn);
        let Seen::There(talks) = talks else {
            self.is_over = true;
            return Ok(());
        };
        // What was said to somebody else before is theirs by now, or the other way round.
        let is_another = |known: &Talks| known.contact.is_some() && known.contact != talks.contact;
        let resets = self.resets || self.known.as_ref().is_some_and(is_another);
        self.resets = false;
        if is_first {
            let begun = self.marked(Event::default().retry(RETRY))?;
            self.ready.push_back(begun);
        }
        if resets {
            self.reset()?;
        }
        self.frames = Some(self.follow(Start::After(place), talks.clone()));
        self.known = Some(talks);
        Ok(())
    }

    fn follow(&self, start: Start, talks: Talks) -> BoxStream<'static, Result<Frame, Error>> {
        let visitor = self.session.visitor();
        let customer = Customer {
            account: visitor.account,
            identifier: visitor.identifier(),
            contact: talks.contact,
            conversations: talks.conversations.into_iter().collect(),
        };
        self.events.of_customer(&self.scope, start, customer)
    }

    fn take(&mut self, frame: Frame) -> Result<(), Error> {
        match frame {
            // What is of the team is nothing to a customer.
            Frame::Hello(..)
            | Frame::Ephemeral(_)
            | Frame::AccessGained(..)
            | Frame::AccessLost(..) => return Ok(()),
            Frame::Batch(told, place) => {
                for one in told {
                    self.place = Some(one.entry.place());
                    if !self.tell(&one)? {
                        // What comes behind it is told to who they are by then.
                        self.frames = None;
                        return Ok(());
                    }
                }
                self.place = Some(place);
            }
            Frame::Checkpoint(place) => self.place = Some(place),
            Frame::Reset(place) => {
                self.place = Some(place);
                self.resets = true;
                self.frames = None;
                return Ok(());
            }
            Frame::Goodbye(place) => {
                self.place = Some(place);
                self.is_over = true;
            }
        }
        if self.ready.is_empty() {
            // The browser takes the place along, and the page hears nothing.
            let passed = self.marked(Event::default().comment("keepalive"))?;
            self.ready.push_back(passed);
        }
        Ok(())
    }

    /// Tells of one event; false if it has to be looked who the visitor is before the next.
    fn tell(&mut self, told: &Told) -> Result<bool, Error> {
        match (told.entry.resource_kind.as_str(), &told.event.resource) {
            ("message", Some(Resource::Message(message))) => {
                if let Some(name) = name(&told.event, message) {
                    let event = Event::default()
                        .event(name)
                        .data(shown(message).to_string());
                    let event = self.marked(event)?;
                    self.ready.push_back(event);
                }
                Ok(true)
            }
            // It went with its conversation, which is told of next.
            ("message", _) => Ok(true),
            ("contact", _) => {
                let changed = &told.event.changed_fields;
                let is_known = self.known.as_ref().is_some_and(|it| it.contact.is_some());
                self.resets = is_known && changed.iter().any(|field| field == "identities");
                Ok(false)
            }
            // A conversation that is gone.
            _ => {
                self.resets = true;
                Ok(false)
            }
        }
    }

    /// Says that what is there has to be loaded anew.
    fn reset(&mut self) -> Result<(), Error> {
        let reset = self.marked(Event::default().event("reset").data("{}"))?;
        self.ready.push_back(reset);
        Ok(())
    }

    /// An event whose id is the place that is reached.
    fn marked(&self, event: Event) -> Result<Event, Error> {
        let Some(place) = self.place else {
            return Ok(event);
        };
        Ok(event.id(self.tokens.token(place)?))
    }
}

/// What an event of a message is called, if its customer sees anything of it.
fn name(event: &pb::Event, message: &pb::Message) -> Option<&'static str> {
    let changed = &event.changed_fields;
    let is_unseen = |field: &String| UNSEEN.contains(&field.as_str());
    if message.direction() == pb::MessageDirection::Internal
        || (!changed.is_empty() && changed.iter().all(is_unseen))
    {
        return None;
    }
    Some(if message.delete_time.is_some() {
        "message.deleted"
    } else if event.r#type == "message.created" {
        "message.created"
    } else {
        "message.updated"
    })
}
