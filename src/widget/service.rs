//! The routes that visitors' browsers call.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, Request, State};
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, CACHE_CONTROL, CONTENT_TYPE, VARY,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderValue, StatusCode, Uri};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{MethodRouter, get, options, post};
use axum::{Extension, Router};
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::Instrument as _;
use url::form_urlencoded;
use uuid::Uuid;

use super::body::{Object, said_length};
use super::message::{MOST_CHARACTERS, Posting, shown};
use super::refusal::{Refusal, Unheard};
use super::session::Session;
use super::widgets::{Visit, Widgets, bearer, origin};
use super::{address, file, stream};
use crate::access::{Actor, Facts};
use crate::call::{CORRELATION, correlation_id};
use crate::event::Events;
use crate::field::{Fields, Most};
use crate::ids::{AttachmentId, ConversationId};
use crate::inbox::visitor::{self, Seen, UserProfile, Visitor};
use crate::inbox::{Inbound, Origin, Reading, open_attachment, record, store_attachment, upload};
use crate::page::PageSize;
use crate::provider::signature::widget::is_proved_by;
use crate::tenant::{TenantScope, Widget};

/// How long a browser may remember that a page may call, in seconds.
const MAX_AGE: HeaderValue = HeaderValue::from_static("600");
/// The headers that a page sends.
const HEADERS: HeaderValue = HeaderValue::from_static("authorization, content-type, last-event-id");
/// The headers that a page may read beside those that every page may.
const EXPOSED: HeaderValue = HeaderValue::from_static("retry-after, x-request-id");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

const WIDGET_TOKEN: Most = Most::Characters(64);
const VISITOR_ID: Most = Most::Characters(128);
const USER_ID: Most = Most::Bytes(255);
const USER_HASH: Most = Most::Characters(128);
const NAME: Most = Most::Characters(256);
const EMAIL: Most = Most::Characters(254);
const PHONE: Most = Most::Characters(64);
/// The most messages of one page.
const MOST_MESSAGES: i32 = 100;

/// Where a visitor listens.
const STREAM: &str = "/widget/v1/stream";

/// The routes, `/widget/v1/…`.
pub fn routes(widgets: Widgets, events: Events) -> Router {
    let messages = get(list_messages).post(post_message);
    Router::new()
        .route("/widget/v1/sessions", called_by(post(open_session), "POST"))
        .route("/widget/v1/identify", called_by(post(identify), "POST"))
        .route("/widget/v1/messages", called_by(messages, "GET, POST"))
        .route(STREAM, called_by(get(stream::open), "GET"))
        .route("/widget/v1/read", called_by(post(read), "POST"))
        .route("/widget/v1/uploads", called_by(post(store), "POST"))
        .route("/widget/v1/attachments/{id}", called_by(get(load), "GET"))
        .layer(Extension(events))
        .layer(from_fn_with_state(widgets.clone(), around))
        .with_state(widgets)
}

/// Adds the answer to a browser that asks first.
fn called_by(methods: MethodRouter<Widgets>, names: &'static str) -> MethodRouter<Widgets> {
    let preflight = async move |State(widgets): State<Widgets>, request: Request| {
        let origin = origin(request.headers())?.ok_or(Refusal::Origin)?;
        let caller = address(&widgets, &request);
        if !widgets.is_known(origin, caller).await? {
            return Err(Refusal::Origin);
        }
        let headers = [
            (
                ACCESS_CONTROL_ALLOW_METHODS,
                HeaderValue::from_static(names),
            ),
            (ACCESS_CONTROL_ALLOW_HEADERS, HEADERS),
            (ACCESS_CONTROL_MAX_AGE, MAX_AGE),
        ];
        Ok((StatusCode::NO_CONTENT, headers).into_response())
    };
    methods.merge(options(preflight))
}

/// A call's correlation id.
#[derive(Clone)]
struct CallId(Arc<str>);

/// What every call goes through: its id, whether its page may hear the answer, the count.
async fn around(State(widgets): State<Widgets>, mut request: Request, next: Next) -> Response {
    let id = correlation_id(request.headers());
    let span = tracing::error_span!("widget", correlation_id = %id);
    request.extensions_mut().insert(CallId(id.clone()));
    let call = name(request.uri());
    let caller = address(&widgets, &request);
    let page = origin(request.headers()).ok().flatten();
    let page = page.and_then(|page| HeaderValue::from_str(page).ok());
    let mut response = next.run(request).instrument(span).await;
    let status = response.status().as_u16().to_string();
    metrics::counter!("widget_calls_total", "call" => call, "status" => status).increment(1);
    let is_unheard = response.extensions().get::<Unheard>().is_some();
    let headers = response.headers_mut();
    headers.insert(VARY, HeaderValue::from_static("Origin"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Ok(id) = HeaderValue::from_str(&id) {
        headers.insert(CORRELATION, id);
    }
    // A refusal is also for pages of a widget that is not known yet: they have to hear how long to
    // wait, or that their session is over.
    if let Some(page) = page.filter(|_| !is_unheard)
        && let Ok(origin) = page.to_str()
        && matches!(widgets.is_known(origin, caller).await, Ok(true))
    {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, page);
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    }
    response
}

/// What a path is called in metrics.
fn name(uri: &Uri) -> &'static str {
    let all = [
        "sessions",
        "identify",
        "messages",
        "stream",
        "read",
        "uploads",
        "attachments",
    ];
    let called = uri.path().split('/').nth(3).unwrap_or_default();
    all.into_iter()
        .find(|name| *name == called)
        .unwrap_or("none")
}

pub(super) fn address(widgets: &Widgets, request: &Request) -> u128 {
    address::caller(request.extensions(), request.headers(), widgets.0.proxies)
}

pub(super) fn call_id(request: &Request) -> String {
    let id = request.extensions().get::<CallId>();
    id.map(|CallId(id)| id.to_string()).unwrap_or_default()
}

fn json(value: &Value) -> Response {
    ([(CONTENT_TYPE, JSON)], value.to_string()).into_response()
}

pub(super) fn within(limit: Result<(), Duration>) -> Result<(), Refusal> {
    limit.map_err(Refusal::TooOften)
}

fn there<T>(seen: Seen<T>) -> Result<T, Refusal> {
    match seen {
        Seen::There(thing) => Ok(thing),
        Seen::Over => Err(Refusal::SessionOver),
    }
}

async fn open_session(
    State(widgets): State<Widgets>,
    request: Request,
) -> Result<Response, Refusal> {
    let inner = &widgets.0;
    let caller = address(&widgets, &request);
    within(inner.limits.sessions.take(caller))?;
    let id = call_id(&request);
    let (parts, body) = request.into_parts();
    let origin = origin(&parts.headers)?;
    let mut object = Object::read(&parts.headers, body).await?;
    let widget_token = object.required_text("widget_token", WIDGET_TOKEN);
    let visitor_id = object.text("visitor_id", VISITOR_ID);
    let proof = Proof::read(&mut object);
    object.finish()?;
    let widget = widgets.find(&widget_token, origin).await?;
    let account = widget.route.account;
    let refreshed = bearer(&parts.headers)
        .and_then(|token| inner.sessions.open(token))
        .filter(|session| session.lasts() && session.account == account)
        .filter(|session| session.tenant_id == widget.route.tenant_id)
        .filter(|session| session.origin.as_deref() == origin);
    let (mut session, is_known) = match refreshed {
        Some(session) => (session, true),
        None => {
            let known = inner.sessions.is_visitor(account, &visitor_id);
            let visitor_id = match known {
                true => visitor_id,
                false => inner.sessions.new_visitor(account)?,
            };
            let whose = (widget.route.tenant_id, account);
            let session = inner
                .sessions
                .new_session(whose, &widget_token, origin, visitor_id);
            (session, known)
        }
    };
    if is_known && proof.is_none() {
        let scope = widgets.scope(&widget, &id).await?;
        let mut conn = scope.conn().await?;
        // Whoever sits here now need not be the one who was identified here.
        if visitor::is_over(&mut conn, &session.visitor()).await? {
            session.visitor_id = inner.sessions.new_visitor(account)?;
            session.user_id = None;
        }
    }
    if let Some(proof) = proof {
        within(inner.limits.identifications.take(caller))?;
        let scope = widgets.scope(&widget, &id).await?;
        proof.check(&widget)?;
        session = proved(&widgets, &scope, session, proof).await?;
    }
    opened(&widgets, &widget, session)
}

/// Who the page says that a visitor is.
struct Proof {
    user_id: String,
    user_hash: String,
    profile: UserProfile,
}

impl Proof {
    /// Reads a proof, where there is one.
    fn read(object: &mut Object) -> Option<Self> {
        let user_id = object.text("user_id", USER_ID);
        let user_hash = object.text("user_hash", USER_HASH);
        let profile = UserProfile {
            name: object.text("name", NAME),
            email: object.text("email", EMAIL),
            phone: object.text("phone", PHONE),
        };
        match (user_id.is_empty(), user_hash.is_empty()) {
            (true, true) => return None,
            (true, false) => object.fields.refuse("user_id", "is required"),
            (false, true) => object.fields.refuse("user_hash", "is required"),
            (false, false) => {}
        }
        Some(Self {
            user_id,
            user_hash,
            profile,
        })
    }

    fn check(&self, widget: &Widget) -> Result<(), Refusal> {
        let mut secrets = widget.identity_secrets().peekable();
        if secrets.peek().is_none() {
            return Err(Refusal::NoIdentities);
        }
        let is_proved = secrets.any(|secret| is_proved_by(secret, &self.user_id, &self.user_hash));
        is_proved.then_some(()).ok_or(Refusal::NotProved)
    }
}

/// Makes a session that of the user who is proved. Another user at the same browser is another
/// visitor.
async fn proved(
    widgets: &Widgets,
    scope: &TenantScope,
    mut session: Session,
    proof: Proof,
) -> Result<Session, Refusal> {
    let (user_id, profile) = (&proof.user_id, &proof.profile);
    let mut conn = scope.conn().await?;
    let mut visitor = Visitor {
        user_id: None,
        ..session.visitor()
    };
    let may_be_same = session.user_id.as_ref().is_none_or(|user| user == user_id);
    if !may_be_same || !visitor::identify(&mut conn, &visitor, user_id, profile).await? {
        visitor.id = widgets.0.sessions.new_visitor(session.account)?;
        if !visitor::identify(&mut conn, &visitor, user_id, profile).await? {
            return Err(Refusal::Unavailable);
        }
    }
    session.visitor_id = visitor.id;
    session.user_id = Some(proof.user_id);
    Ok(session)
}

/// Answers with a session, which begins now.
fn opened(widgets: &Widgets, widget: &Widget, mut session: Session) -> Result<Response, Refusal> {
    let (token, refresh_after) = widgets.0.sessions.begin(&mut session)?;
    Ok(json(&json!({
        "visitor_id": session.visitor_id,
        "session_token": token,
        "expires_at": session.expires_at(),
        "refresh_after": refresh_after,
        "identified": session.user_id.is_some(),
        "stream_url": STREAM,
        "settings": {
            "greeting": widget.settings.greeting,
            "identity_required": widget.settings.identity_required,
            "max_message_chars": MOST_CHARACTERS,
            "max_file_bytes": widgets.0.most_bytes,
        },
    })))
}

async fn identify(State(widgets): State<Widgets>, request: Request) -> Result<Response, Refusal> {
    let caller = address(&widgets, &request);
    within(widgets.0.limits.identifications.take(caller))?;
    let id = call_id(&request);
    let (parts, body) = request.into_parts();
    let Visit { widget, session } = widgets.enter(&parts.headers).await?;
    let mut object = Object::read(&parts.headers, body).await?;
    let proof = Proof::read(&mut object);
    if proof.is_none() {
        object.fields.refuse("user_id", "is required");
    }
    object.finish()?;
    let proof = proof.ok_or(Refusal::NotProved)?;
    proof.check(&widget)?;
    let scope = widgets.scope(&widget, &id).await?;
    let session = proved(&widgets, &scope, session, proof).await?;
    opened(&widgets, &widget, session)
}

async fn post_message(
    State(widgets): State<Widgets>,
    request: Request,
) -> Result<Response, Refusal> {
    let caller = address(&widgets, &request);
    let id = call_id(&request);
    let (parts, body) = request.into_parts();
    let visit = widgets.enter(&parts.headers).await?;
    let session = &visit.session;
    within(widgets.0.limits.messages.take(session.key()))?;
    within(widgets.0.limits.address_messages.take(caller))?;
    visit.check_may_write()?;
    let posting = Posting::read(Object::read(&parts.headers, body).await?)?;
    let provider_id = posting.provider_id(session);
    let visitor = session.visitor();
    let scope = widgets.scope(&visit.widget, &id).await?;
    let mut conn = scope.conn().await?;
    let posted = visitor::posted(&mut conn, &visitor, &provider_id).await?;
    if let Some(message) = there(posted)? {
        return Ok(json(&shown(&message.into())));
    }
    if let Some(upload) = posting.upload {
        let file = upload::find(&mut conn, &uploader(session), upload).await?;
        posting.check_file(&file.content_type)?;
    }
    let message = Inbound::Message(Box::new(posting.into_inbound(session)));
    record(&mut conn, Origin::visitor(session.account), &message).await?;
    let posted = visitor::posted(&mut conn, &visitor, &provider_id).await?;
    // Known, and not there: it was erased with whoever said it.
    let message = there(posted)?.ok_or(Refusal::NotFound {
        field: "client_message_id",
    })?;
    Ok(json(&shown(&message.into())))
}

/// Reads one parameter behind the path.
pub(super) fn parameter(uri: &Uri, name: &str) -> Option<String> {
    let query = uri.query().unwrap_or_default();
    let mut all = form_urlencoded::parse(query.as_bytes());
    let found = all.find(|(key, value)| key == name && !value.is_empty());
    found.map(|(_, value)| value.into_owned())
}

/// Reads a number behind the path that is not negative; 0 where there is none.
fn count<T: std::str::FromStr + Default + PartialOrd>(
    fields: &mut Fields,
    uri: &Uri,
    name: &str,
) -> T {
    let Some(text) = parameter(uri, name) else {
        return T::default();
    };
    let number = text.parse().ok().filter(|number| *number >= T::default());
    if number.is_none() {
        fields.refuse(name, "must be a whole number, 0 or more");
    }
    number.unwrap_or_default()
}

async fn list_messages(
    State(widgets): State<Widgets>,
    request: Request,
) -> Result<Response, Refusal> {
    let Visit { widget, session } = widgets.enter(request.headers()).await?;
    within(widgets.0.limits.reads.take(session.key()))?;
    let uri = request.uri();
    let mut fields = Fields::default();
    let after: i64 = count(&mut fields, uri, "after");
    let size: i32 = count(&mut fields, uri, "page_size");
    let conversation_id = parameter(uri, "conversation_id").unwrap_or_default();
    let conversation_id = fields.id("conversation_id", &conversation_id, ConversationId);
    fields.finish()?;
    let size = PageSize::new(size.min(MOST_MESSAGES))?;
    let scope = widgets.scope(&widget, &call_id(&request)).await?;
    let mut conn = scope.conn().await?;
    let talk = visitor::talk(&mut conn, &session.visitor(), conversation_id).await?;
    let Some(talk) = there(talk)? else {
        return Ok(json(&json!({
            "conversation_id": null,
            "previous_conversation_id": null,
            "messages": [],
            "next_after": null,
        })));
    };
    let mut messages = visitor::list(&mut conn, talk, after, size).await?;
    let most = usize::try_from(size.items()).unwrap_or(usize::MAX);
    let goes_on = messages.len() > most;
    messages.truncate(most);
    let last = messages.last().filter(|_| goes_on);
    let next_after = last.map(|message| message.sequence);
    let messages = messages.into_iter().map(|message| shown(&message.into()));
    Ok(json(&json!({
        "conversation_id": talk.id,
        "previous_conversation_id": talk.previous,
        "messages": messages.collect::<Vec<_>>(),
        "next_after": next_after,
    })))
}

async fn read(State(widgets): State<Widgets>, request: Request) -> Result<Response, Refusal> {
    let id = call_id(&request);
    let (parts, body) = request.into_parts();
    let Visit { widget, session } = widgets.enter(&parts.headers).await?;
    within(widgets.0.limits.reads.take(session.key()))?;
    let mut object = Object::read(&parts.headers, body).await?;
    let sequence = object.required_count("sequence");
    let conversation_id = object.text("conversation_id", VISITOR_ID);
    let fields = &mut object.fields;
    let conversation_id = fields.id("conversation_id", &conversation_id, ConversationId);
    object.finish()?;
    let scope = widgets.scope(&widget, &id).await?;
    let mut conn = scope.conn().await?;
    let talk = visitor::talk(&mut conn, &session.visitor(), conversation_id).await?;
    if let Some(talk) = there(talk)? {
        visitor::read(&mut conn, talk, sequence).await?;
    }
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// One of the places that visitors' files have.
fn place(places: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, Refusal> {
    let place = places.clone().try_acquire_owned();
    place.map_err(|_| Refusal::Unavailable)
}

/// Whom a file of a visitor's belongs to until its message is there.
fn uploader(session: &Session) -> Actor {
    Actor::Service(format!("visitor {}", session.trace_of(b"uploads")))
}

async fn store(State(widgets): State<Widgets>, request: Request) -> Result<Response, Refusal> {
    let caller = address(&widgets, &request);
    let id = call_id(&request);
    let (parts, body) = request.into_parts();
    let visit = widgets.enter(&parts.headers).await?;
    let session = &visit.session;
    within(widgets.0.limits.uploads.take(session.key()))?;
    within(widgets.0.limits.address_uploads.take(caller))?;
    visit.check_may_write()?;
    let _place = place(&widgets.0.uploads)?;
    let most = widgets.0.most_bytes;
    // Said beforehand, it need not be sent to be refused.
    if said_length(&parts.headers).is_some_and(|length| length > most) {
        return Err(Refusal::TooLarge);
    }
    let file_name = parameter(&parts.uri, "file_name").unwrap_or_default();
    let new = file::described(&parts.headers, file_name)?;
    let scope = widgets.scope(&visit.widget, &id).await?;
    let mut conn = scope.conn().await?;
    if visitor::is_over(&mut conn, &session.visitor()).await? {
        return Err(Refusal::SessionOver);
    }
    let facts = conn.facts().clone();
    // The body may take its time.
    drop(conn);
    let scope = scope.on_behalf(Facts {
        actor: uploader(session),
        ..Facts::clone(&facts)
    });
    let stored = store_attachment(scope, new, file::content(body, most)).await?;
    Ok(json(&json!({
        "upload_id": stored.id,
        "file_name": stored.file_name,
        "content_type": stored.content_type,
        "size_bytes": stored.size_bytes,
    })))
}

async fn load(
    State(widgets): State<Widgets>,
    Path(attachment): Path<String>,
    request: Request,
) -> Result<Response, Refusal> {
    let Visit { widget, session } = widgets.enter(request.headers()).await?;
    within(widgets.0.limits.reads.take(session.key()))?;
    let attachment = Uuid::try_parse(&attachment).map_err(|_| Refusal::NotFound { field: "" })?;
    let id = AttachmentId(attachment);
    let scope = widgets.scope(&widget, &call_id(&request)).await?;
    let mut conn = scope.conn().await?;
    there(visitor::check_file(&mut conn, &session.visitor(), id).await?)?;
    drop(conn);
    let reading = Reading {
        id,
        offset: 0,
        length: None,
    };
    let place = place(&widgets.0.downloads)?;
    let (attachment, pieces) = open_attachment(&scope, &reading).await?;
    Ok(file::answer(&attachment, pieces, place))
}
