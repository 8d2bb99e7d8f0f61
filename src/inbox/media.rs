//! Files of customers that are with a provider: told of with their message, and fetched later.
//!
//! What is to be fetched is a row beside the file's own; both are there, or not, with the message.
//! Who fetches has a lease, and says in the end what came of it: once, and only if nobody has deleted
//! the message meanwhile.

use std::marker::PhantomData;

use diesel::prelude::*;
use diesel::sql_types::{self, BigInt, Bool, Double, Integer, Jsonb, Nullable, Text};
use diesel_async::RunQueryDsl;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use super::attachment::{FetchFailure, State};
use super::content_type::{self, UNKNOWN};
use super::inbound::{FileSource, InboundFile, InboundMessage, Origin};
use super::message::MessageType;
use crate::database::statement::statement;
use crate::error::Error;
use crate::event::log::append_events;
use crate::ids::{AttachmentId, ChannelAccountId, DeliveryId, MessageId};
use crate::schema::tenant::{attachments, media_fetches};
use crate::tenant::TenantConn;

/// The longest name of a file, in bytes.
const MAX_NAME_BYTES: usize = 255;

/// A message to be, and the files that it is told to have.
pub(super) struct Announced {
    /// The message's id.
    pub message_id: MessageId,
    files: Vec<AnnouncedFile>,
}

/// A file that a provider told of.
struct AnnouncedFile {
    id: AttachmentId,
    file_name: String,
    content_type: String,
    content_id: Option<String>,
    source: Source,
}

/// Where a file is, as its row has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// At an address, which ends some time.
    Url(String),
    /// With the provider, under an id.
    Media(String),
    /// In the delivery itself.
    Inline {
        /// What the provider calls its message.
        message: String,
        /// Its place among the files of that.
        place: usize,
    },
}

impl Announced {
    /// A message that comes in.
    pub fn of(message: &InboundMessage) -> Self {
        let files = message
            .files
            .iter()
            .enumerate()
            .filter_map(|(place, file)| {
                let source = match &file.source {
                    FileSource::Url(url) => Source::Url(url.clone()),
                    FileSource::Media(media) => Source::Media(media.clone()),
                    FileSource::Inline(_) => Source::Inline {
                        message: message.provider_id.clone(),
                        place,
                    },
                    // It is there.
                    FileSource::Upload(_) => return None,
                };
                Some(AnnouncedFile::new(file, message.message_type, source))
            });
        Self {
            message_id: MessageId::new(),
            files: files.collect(),
        }
    }

    /// A message that is there already, without files.
    pub fn to(message_id: MessageId) -> Self {
        Self {
            message_id,
            files: Vec::new(),
        }
    }

    /// Adds a recording; returns its id.
    pub fn add_recording(&mut self, url: String) -> AttachmentId {
        let (name, content_type) = ("recording.mp3".to_owned(), "audio/mpeg".to_owned());
        let file = InboundFile::new(name, content_type, FileSource::Url(url.clone()));
        let file = AnnouncedFile::new(&file, MessageType::Audio, Source::Url(url));
        let id = file.id;
        self.files.push(file);
        id
    }

    /// What the message's row says of the files, but whose they are and since when; `None` if there
    /// are none.
    pub fn described(&self) -> Option<Value> {
        let described = self.files.iter().map(|file| {
            json!({
                "id": file.id,
                "state": State::Pending,
                "file_name": file.file_name,
                "content_type": file.content_type,
                "content_id": file.content_id,
            })
        });
        let described: Vec<_> = described.collect();
        (!described.is_empty()).then(|| described.into())
    }
}

impl AnnouncedFile {
    fn new(file: &InboundFile, message_type: MessageType, source: Source) -> Self {
        let said = content_type::parse(&file.content_type);
        Self {
            id: AttachmentId::new(),
            file_name: label(&file.name, message_type),
            content_type: said.unwrap_or_else(|| UNKNOWN.to_owned()),
            content_id: file.content_id.clone(),
            source,
        }
    }
}

/// What a file may be called: never a path, and nothing that turns the direction of writing.
fn label(name: &str, message_type: MessageType) -> String {
    let name = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let is_strange = |sign: &char| {
        sign.is_control() || matches!(sign, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let name: String = name.chars().filter(|sign| !is_strange(sign)).collect();
    let name = name.trim();
    if matches!(name, "" | "." | "..") {
        return match message_type {
            MessageType::Image | MessageType::Audio | MessageType::Video => message_type.as_str(),
            _ => "file",
        }
        .to_owned();
    }
    if name.len() <= MAX_NAME_BYTES {
        return name.to_owned();
    }
    // What it is at its end tells what opens it.
    let (stem, extension) = match name.rsplit_once('.') {
        Some((stem, extension)) if extension.len() < 16 => (stem, format!(".{extension}")),
        _ => (name, String::new()),
    };
    let mut end = (MAX_NAME_BYTES - extension.len()).min(stem.len());
    while !stem.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{extension}", &stem[..end])
}

/// Adds the rows of files to those of their message, in the open transaction.
pub(super) async fn announce(
    conn: &mut TenantConn,
    (account, delivery): (ChannelAccountId, DeliveryId),
    announced: &Announced,
) -> Result<(), Error> {
    if announced.files.is_empty() {
        return Ok(());
    }
    let facts = conn.facts().clone();
    let now = || diesel::dsl::sql("directory.now()");
    let rows = announced.files.iter().map(|file| {
        (
            attachments::id.eq(file.id),
            attachments::state.eq(State::Pending),
            attachments::message_id.eq(announced.message_id),
            attachments::file_name.eq(&file.file_name),
            attachments::content_type.eq(&file.content_type),
            attachments::content_id.eq(&file.content_id),
            attachments::actor_kind.eq(facts.actor.kind()),
            attachments::actor_id.eq(facts.actor.id()),
            attachments::caller.eq(&facts.caller.service),
            attachments::correlation_id.eq(&*facts.correlation_id),
            attachments::created_at.eq(now()),
        )
    });
    diesel::insert_into(attachments::table)
        .values(rows.collect::<Vec<_>>())
        .execute(conn)
        .await?;
    let mut rows = Vec::with_capacity(announced.files.len());
    for file in &announced.files {
        rows.push((
            media_fetches::attachment_id.eq(file.id),
            media_fetches::channel_account_id.eq(account),
            media_fetches::delivery_id.eq(delivery),
            media_fetches::source.eq(serde_json::to_value(&file.source).map_err(Error::internal)?),
            media_fetches::due_at.eq(now()),
        ));
    }
    diesel::insert_into(media_fetches::table)
        .values(rows)
        .execute(conn)
        .await?;
    Ok(())
}

/// A file to fetch, and the right to do so.
#[derive(Debug, QueryableByName)]
pub struct DueFile {
    /// Its id.
    #[diesel(sql_type = sql_types::Uuid)]
    pub attachment_id: AttachmentId,
    /// The account that it came to.
    #[diesel(sql_type = sql_types::Uuid)]
    pub channel_account_id: ChannelAccountId,
    /// The delivery that told of it.
    #[diesel(sql_type = sql_types::Uuid)]
    pub delivery_id: DeliveryId,
    #[diesel(sql_type = Jsonb)]
    source: Value,
    /// How often it was tried, with this time.
    #[diesel(sql_type = Integer)]
    pub attempts: i32,
    #[diesel(sql_type = sql_types::Uuid)]
    lease: Uuid,
    /// What it is called.
    #[diesel(sql_type = Text)]
    pub file_name: String,
    /// What its sender says that it is.
    #[diesel(sql_type = Text)]
    pub content_type: String,
    /// How long ago the provider told of it, in seconds.
    #[diesel(sql_type = Double)]
    pub age_seconds: f64,
}

impl DueFile {
    /// Where it is.
    ///
    /// # Errors
    /// Its row says nothing sensible.
    pub fn source(&self) -> Result<Source, Error> {
        serde_json::from_value(self.source.clone()).map_err(Error::internal)
    }
}

#[derive(QueryableByName)]
struct IsDue {
    #[diesel(sql_type = Bool)]
    is_due: bool,
}

/// Tells whether a file is to be fetched by now.
pub async fn is_due(conn: &mut TenantConn) -> Result<bool, Error> {
    let found: IsDue = diesel::sql_query(
        "SELECT EXISTS (
            SELECT FROM media_fetches f JOIN attachments a ON a.id = f.attachment_id
            WHERE f.due_at <= directory.now() AND a.state = 'pending'
        ) AS is_due",
    )
    .get_result(conn)
    .await?;
    Ok(found.is_due)
}

/// Takes files that are to be fetched, the longest due first, for so many seconds.
pub async fn take(
    conn: &mut TenantConn,
    most: i64,
    lease_seconds: f64,
) -> Result<Vec<DueFile>, Error> {
    let taken = diesel::sql_query(
        "WITH due AS MATERIALIZED (
            SELECT f.attachment_id
            FROM media_fetches f JOIN attachments a ON a.id = f.attachment_id
            WHERE f.due_at <= directory.now() AND a.state = 'pending'
            ORDER BY f.due_at LIMIT $1
            FOR UPDATE OF f SKIP LOCKED
        )
        UPDATE media_fetches f
        SET attempts = f.attempts + 1, lease = gen_random_uuid(),
            due_at = directory.now() + make_interval(secs => $2)
        FROM due JOIN attachments a ON a.id = due.attachment_id
        WHERE f.attachment_id = due.attachment_id
        RETURNING f.attachment_id, f.channel_account_id, f.delivery_id, f.source, f.attempts,
            f.lease, a.file_name, a.content_type,
            extract(epoch FROM directory.now() - a.created_at)::double precision AS age_seconds",
    )
    .bind::<BigInt, _>(most)
    .bind::<Double, _>(lease_seconds)
    .load(conn)
    .await?;
    Ok(taken)
}

/// Lets a file be tried again, so many seconds later.
pub async fn put_off(conn: &mut TenantConn, due: &DueFile, seconds: f64) -> Result<(), Error> {
    diesel::sql_query(
        "UPDATE media_fetches
        SET lease = NULL, due_at = directory.now() + make_interval(secs => $3)
        WHERE attachment_id = $1 AND lease = $2",
    )
    .bind::<sql_types::Uuid, _>(due.attachment_id)
    .bind::<sql_types::Uuid, _>(due.lease)
    .bind::<Double, _>(seconds)
    .execute(conn)
    .await?;
    Ok(())
}

/// A file that is there.
#[derive(Debug)]
pub struct FetchedFile {
    /// What it is called.
    pub file_name: String,
    /// What it is.
    pub content_type: String,
    /// How long it is, in bytes.
    pub size_bytes: i64,
    /// The SHA-256 of its content.
    pub sha256: String,
}

statement! {
    // The message is locked first, as by whoever deletes it. No row = the file is not pending any
    // more, or somebody else fetches it.
    /// Says what came of a file.
    Settle<'a> -> sql_types::Uuid {
        attachment_id: AttachmentId => sql_types::Uuid,
        lease: Uuid => sql_types::Uuid,
        state: State => Text,
        failure: Option<FetchFailure> => Nullable<Text>,
        file_name: &'a str => Text,
        content_type: &'a str => Text,
        size_bytes: Option<i64> => Nullable<BigInt>,
        sha256: Option<&'a str> => Nullable<Text>,
        actor_kind: &'a str => Text,
        actor_id: &'a str => Text,
        caller: &'a str => Text,
        correlation_id: &'a str => Text,
        tenant_number: i32 => Integer,
    }
    concat!("
        , head AS (
            SELECT m.* FROM inbox_messages m, input
            WHERE m.id = (SELECT a.message_id FROM attachments a WHERE a.id = input.attachment_id)
                AND m.deleted_at IS NULL
            FOR NO KEY UPDATE OF m
        ), settled AS (
            UPDATE attachments a
            SET state = input.state, failure = input.failure, file_name = input.file_name,
                content_type = input.content_type, size_bytes = input.size_bytes,
                sha256 = input.sha256
            FROM head, input, media_fetches f
            WHERE a.id = input.attachment_id AND a.message_id = head.id AND a.state = 'pending'
                AND f.attachment_id = input.attachment_id AND f.lease = input.lease
            RETURNING a.*
        ), done AS (
            DELETE FROM media_fetches f USING settled s WHERE f.attachment_id = s.id
        ), bumped AS (
            UPDATE inbox_messages m
            SET attachments = (
                    SELECT jsonb_agg(CASE WHEN f.file->>'id' = s.id::text
                        THEN f.file || jsonb_build_object('state', s.state, 'failure', s.failure,
                            'file_name', s.file_name, 'content_type', s.content_type,
                            'size_bytes', s.size_bytes, 'sha256', s.sha256)
                        ELSE f.file END ORDER BY f.place)
                    FROM jsonb_array_elements(head.attachments) WITH ORDINALITY AS f (file, place)
                ), version = m.version + 1, updated_at = greatest(directory.now(), m.updated_at)
            FROM head, settled s WHERE m.id = head.id
            RETURNING m.*
        ), changes AS (
            SELECT 'message.updated' AS kind, 'message' AS resource_kind, b.id AS resource_id,
                b.conversation_id AS parent_id, b.sequence, b.version,
                '{attachments}'::text[] AS changed
            FROM bumped b
        )", append_events!(), "
        SELECT id FROM bumped")
}

/// Says that a file is there, or why it cannot be had; tells whether that file may stay. It may not
/// if its message was deleted meanwhile.
pub async fn settle(
    conn: &mut TenantConn,
    due: &DueFile,
    fetched: Result<&FetchedFile, FetchFailure>,
) -> Result<bool, Error> {
    let facts = conn.facts().clone();
    let file = fetched.ok();
    let settle = Settle {
        attachment_id: due.attachment_id,
        lease: due.lease,
        state: file.map_or(State::Failed, |_| State::Ready),
        failure: fetched.err(),
        file_name: file.map_or(&due.file_name, |file| &file.file_name),
        content_type: file.map_or(&due.content_type, |file| &file.content_type),
        size_bytes: file.map(|file| file.size_bytes),
        sha256: file.map(|file| file.sha256.as_str()),
        actor_kind: facts.actor.kind(),
        actor_id: facts.actor.id(),
        caller: &facts.caller.service,
        correlation_id: &facts.correlation_id,
        tenant_number: conn.tenant_number(),
        life: PhantomData,
    };
    let settled: Option<MessageId> = settle.get_result(conn).await.optional()?;
    if settled.is_some() {
        return Ok(true);
    }
    let state = attachments::table
        .find(due.attachment_id)
        .select(attachments::state);
    let state: Option<State> = state.first(conn).await.optional()?;
    Ok(!matches!(state, None | Some(State::Deleted)))
}

impl From<Origin> for (ChannelAccountId, DeliveryId) {
    fn from(origin: Origin) -> Self {
        (origin.account, origin.delivery)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_label_and_no_path() {
        let long = "ä".repeat(200);
        for (given, label_of) in [
            ("Rechnung März.pdf", "Rechnung März.pdf"),
            ("../../etc/passwd", "passwd"),
            ("C:\\Users\\x\\a.doc", "a.doc"),
            ("", "image"),
            ("..", "image"),
            ("/", "image"),
            ("a\u{202e}gnp.exe\n", "agnp.exe"),
            (&format!("{long}.pdf"), &format!("{}.pdf", "ä".repeat(125))),
            (&long, &"ä".repeat(127)),
        ] {
            assert_eq!(label(given, MessageType::Image), label_of);
        }
        assert_eq!(label("", MessageType::Document), "file");
    }
}
