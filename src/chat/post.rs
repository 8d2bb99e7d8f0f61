//! Posting: how entries enter a channel.

use std::marker::PhantomData;

use diesel::prelude::*;
use diesel::result::{DatabaseErrorKind, Error as DieselError};
use diesel::sql_types::{self, Array, Bool, Integer, Jsonb, Nullable, Text};
use diesel_async::{AsyncConnection as _, RunQueryDsl};
use serde_json::Value;

use super::attachment;
use super::audit;
use super::capability::Capability;
use super::channel;
use super::entry::{Entry, EntryRow, EntryType, Mentions, entry_columns};
use super::search::entry_words;
use crate::access::Facts;
use crate::database::statement::statement;
use crate::error::{Conflict, Denial, Error, Precondition};
use crate::event::log::append_events;
use crate::ids::{AttachmentId, ChannelId, ChatEntryId};
use crate::request_id::{self, RequestId};
use crate::search::vector;
use crate::tenant::TenantConn;

/// An entry to post.
#[derive(Debug)]
pub struct NewEntry {
    /// Its id.
    pub id: ChatEntryId,
    /// The caller's id for the request.
    pub request_id: Option<RequestId>,
    /// The channel.
    pub channel_id: ChannelId,
    /// The entry whose thread it is for.
    pub thread_root_id: Option<ChatEntryId>,
    /// What it is.
    pub entry_type: EntryType,
    /// The text.
    pub text: String,
    /// Whom it mentions.
    pub mentions: Mentions,
    /// Free data.
    pub metadata: Value,
    /// Its files.
    pub attachments: Vec<AttachmentId>,
}

impl NewEntry {
    /// Whether it goes beyond the channel itself: into a thread, or to somebody, or with files.
    pub fn reaches_out(&self) -> bool {
        self.thread_root_id.is_some()
            || !self.attachments.is_empty()
            || self.mentions.everyone
            || !self.mentions.user_ids.is_empty()
    }
}

/// What posts the entries of `input`, each in a channel of its own; its parts about threads, mentions and
/// files are left out where there are none.
macro_rules! post {
    ($if_locked:expr, $files:expr, $root:expr, $root_found:expr, $files_fit:expr, $attachments:expr,
        $reached:expr, $events:expr, $refusal:expr, $from:expr) => {
        concat!("
        , head AS (
            SELECT input.id AS entry_id, c.* FROM input CROSS JOIN LATERAL (
                SELECT c.* FROM channels c WHERE c.id = input.channel_id AND c.deleted_at IS NULL
                FOR NO KEY UPDATE", $if_locked, "
            ) c
        )", $files, ", known AS (
            SELECT head.*, m.role,
                m.role IN ('owner', 'moderator') OR input.unrestricted AS keeps_order,
                m.role IS NULL AND input.user_id IS NULL AND head.kind = 'public' AS is_automation,
                (SELECT c.removals FROM channels c WHERE c.id = head.id) = head.removals AS is_fresh,
                ", $root_found, " AS root_found
            FROM head JOIN input ON input.id = head.entry_id
            LEFT JOIN LATERAL (
                SELECT m.role FROM channel_members m
                WHERE m.channel_id = head.id AND m.user_id = input.user_id AND m.left_at IS NULL
                LIMIT 1
            ) m ON true
            ", $root, "
        ), checked AS (
            SELECT k.entry_id, k.id, k.last_sequence, k.last_entry_at, CASE
                WHEN k.role IS NULL AND k.kind <> 'public' AND NOT input.unrestricted THEN 'unseen'
                WHEN NOT k.is_fresh THEN 'stale'
                WHEN k.keeps_order IS NOT TRUE AND (k.posting_policy <> 'members'
                    OR k.role IS NULL AND NOT k.is_automation) THEN 'post'
                WHEN k.archived_at IS NOT NULL THEN 'archived'
                WHEN input.broadcasts AND k.keeps_order IS NOT TRUE AND (k.broadcast_policy <> 'members'
                    OR k.role = 'guest') THEN 'broadcast'
                WHEN NOT k.root_found THEN 'root'
                ", $files_fit, "END AS refusal
            FROM known k JOIN input ON input.id = k.entry_id
        ), new AS (
            SELECT input.id, c.id AS channel_id, c.last_sequence + 1 AS sequence, input.thread_root_id,
                input.type_ AS type, input.text, input.metadata, ", $attachments, " AS attachments,
                input.mentioned_user_ids,
                input.mentions_everyone, input.mentions_here, 0 AS reply_count,
                0::bigint AS last_reply_sequence, NULL::timestamptz AS last_reply_at,
                input.actor_kind AS author_kind, input.actor_id AS author_id, input.caller, 0 AS edits,
                1::bigint AS version,
                -- Who waited for the row began earlier than what came before.
                greatest(directory.now(), c.last_entry_at) AS created_at,
                greatest(directory.now(), c.last_entry_at) AS updated_at,
                NULL::timestamptz AS edited_at, NULL::timestamptz AS deleted_at,
                '[]'::jsonb AS reactions, NULL::timestamptz AS pinned_at,
                NULL::text AS pinned_by_kind, NULL::text AS pinned_by_id
            FROM checked c JOIN input ON input.id = c.entry_id
            WHERE c.refusal IS NULL
        ), claimed AS (
            INSERT INTO requests (caller, method, request_id, request_hash, response, created_at)
            SELECT input.caller, input.method, input.request_id, input.request_hash, to_jsonb(new),
                new.created_at
            FROM new JOIN input USING (id) WHERE input.request_id IS NOT NULL
            ON CONFLICT DO NOTHING
            RETURNING request_id
        ), e AS (
            SELECT new.* FROM new JOIN input USING (id)
            WHERE input.request_id IS NULL
                OR input.request_id IN (SELECT claimed.request_id FROM claimed)
        ), bumped AS (
            UPDATE channels c SET last_sequence = e.sequence, last_entry_at = e.created_at
            FROM e WHERE c.id = e.channel_id
            RETURNING c.id
        ), inserted AS (
            INSERT INTO chat_entries (id, channel_id, sequence, thread_root_id, type, text, metadata,
                attachments, mentioned_user_ids, mentions_everyone, mentions_here, author_kind, author_id, caller,
                correlation_id, created_at, updated_at)
            SELECT e.id, e.channel_id, e.sequence, e.thread_root_id, e.type, e.text, e.metadata,
                e.attachments, e.mentioned_user_ids, e.mentions_everyone, e.mentions_here, e.author_kind, e.author_id,
                e.caller, input.correlation_id, e.created_at, e.updated_at
            FROM e JOIN bumped ON bumped.id = e.channel_id JOIN input ON input.id = e.id
        ), indexed AS (
            INSERT INTO chat_entry_words (chat_entry_id, created_at, words)
            SELECT e.id, e.created_at, ", entry_words!(), "
            FROM e JOIN bumped ON bumped.id = e.channel_id JOIN input ON input.id = e.id
            JOIN head c ON c.id = e.channel_id
        )", $reached, ", changes AS (
            SELECT 'chat_entry.created' AS kind, 'chat_entry' AS resource_kind, e.id AS resource_id,
                e.channel_id AS parent_id, e.sequence, e.version, '{}'::text[] AS changed
            FROM e JOIN bumped ON bumped.id = e.channel_id", $events, "
        SELECT ", $refusal, entry_columns!(), $from)
    };
}

statement! {
    // One round trip. The channel's row lock orders its entries; the request id is claimed under it
    // with the answer in hand. Memberships and the thread's root are read as the statement began,
    // which may be before its wait for the lock: `removals` tells whether one of them was taken away
    // meanwhile, and then it is done again, under the lock from the start. Files are locked after the
    // channel, and all of them have to be there, free, and the author's own. No row = no such channel.
    /// Posts an entry.
    Post<'a> -> (Nullable<Text>, Nullable<EntryRow>) {
        id: ChatEntryId => sql_types::Uuid,
        channel_id: ChannelId => sql_types::Uuid,
        user_id: Option<&'a str> => Nullable<Text>,
        unrestricted: bool => Bool,
        thread_root_id: Option<ChatEntryId> => Nullable<sql_types::Uuid>,
        type_: EntryType => Text,
        text: &'a str => Text,
        words: &'a str => Text,
        metadata: &'a Value => Jsonb,
        attachment_ids: &'a [AttachmentId] => Array<sql_types::Uuid>,
        mentioned_user_ids: &'a [String] => Array<Text>,
        mentions_everyone: bool => Bool,
        mentions_here: bool => Bool,
        broadcasts: bool => Bool,
        request_id: Option<&'a str> => Nullable<Text>,
        request_hash: Option<&'a [u8]> => Nullable<sql_types::Bytea>,
        method: &'a str => Text,
        actor_kind: &'a str => Text,
        actor_id: &'a str => Text,
        caller: &'a str => Text,
        correlation_id: &'a str => Text,
        tenant_number: i32 => Integer,
    }
    post!("", ", files AS (
            SELECT a.id, asked.place, a.chat_entry_id IS NULL AS is_free,
                jsonb_build_object('id', a.id, 'chat_entry_id', input.id, 'file_name', a.file_name,
                    'content_type', a.content_type, 'size_bytes', a.size_bytes,
                    'sha256', a.sha256, 'created_at', a.created_at) AS attachment
            FROM head CROSS JOIN input
            CROSS JOIN unnest(input.attachment_ids) WITH ORDINALITY AS asked (id, place)
            JOIN attachments a ON a.id = asked.id AND a.state = 'ready' AND a.of_chat
                AND a.actor_kind = input.actor_kind AND a.actor_id = input.actor_id
            FOR NO KEY UPDATE OF a
        )",
        "LEFT JOIN chat_entries r ON r.id = input.thread_root_id AND r.channel_id = head.id
                AND r.thread_root_id IS NULL AND r.deleted_at IS NULL",
        "input.thread_root_id IS NULL OR r.id IS NOT NULL",
        "WHEN (SELECT count(*) FROM files WHERE is_free) < cardinality(input.attachment_ids) THEN 'files'
                ",
        "(SELECT jsonb_agg(files.attachment ORDER BY files.place) FROM files)",
        ", attached AS (
            UPDATE attachments a SET chat_entry_id = e.id FROM e, bumped, files WHERE a.id = files.id
        ), mentioned AS (
            INSERT INTO mentions (chat_entry_id, user_id, channel_id, sequence, thread_root_id, created_at)
            SELECT e.id, of.user_id, e.channel_id, e.sequence, e.thread_root_id, e.created_at
            FROM e CROSS JOIN bumped CROSS JOIN input CROSS JOIN LATERAL (
                SELECT unnest(e.mentioned_user_ids) AS user_id
                UNION ALL
                SELECT '' WHERE e.mentions_everyone
            ) of
            WHERE of.user_id IS DISTINCT FROM input.user_id
        ), answered AS (
            UPDATE chat_entries r
            SET reply_count = r.reply_count + 1, last_reply_sequence = e.sequence,
                last_reply_at = e.created_at, updated_at = e.created_at, version = r.version + 1
            FROM e, bumped WHERE r.id = e.thread_root_id
            RETURNING r.*
        ), followers AS (
            -- Who writes has read the thread; who asked has not, nor who is mentioned.
            SELECT DISTINCT ON (f.user_id) f.user_id, e.thread_root_id, e.channel_id, f.read_sequence,
                f.comes_back, e.created_at
            FROM e CROSS JOIN answered a CROSS JOIN LATERAL (
                SELECT 1 AS rank, e.author_id AS user_id, e.sequence AS read_sequence, true AS comes_back
                WHERE e.author_kind = 'user'
                UNION ALL
                SELECT 2, unnest(e.mentioned_user_ids), e.sequence - 1, true
                UNION ALL
                SELECT 3, a.author_id, a.sequence, false WHERE a.author_kind = 'user'
            ) f
            ORDER BY f.user_id, f.rank
        ), followed AS (
            INSERT INTO thread_follows AS was (id, chat_entry_id, user_id, channel_id, following,
                read_sequence, updated_at)
            SELECT gen_random_uuid(), f.thread_root_id, f.user_id, f.channel_id, true, f.read_sequence,
                f.created_at
            FROM followers f ORDER BY f.user_id
            ON CONFLICT (chat_entry_id, user_id) DO UPDATE
            SET following = true, read_sequence = excluded.read_sequence, version = was.version + 1,
                read_version = was.read_version + 1, updated_at = excluded.updated_at
            WHERE NOT was.following AND excluded.user_id = ANY (
                SELECT f.user_id FROM followers f WHERE f.comes_back
            )
            RETURNING id, channel_id, version
        )", concat!("
            UNION ALL
            SELECT 'chat_entry.updated', 'chat_entry', a.id, a.channel_id, a.sequence, a.version,
                '{thread}'
            FROM answered a
            UNION ALL
            SELECT 'thread_follow.updated', 'thread_follow', f.id, f.channel_id, NULL, f.version,
                '{following}'
            FROM followed f
        )", append_events!()), "checked.refusal, ", " FROM checked LEFT JOIN e ON true")
}

statement! {
    // One round trip, and one commit, for entries that reach out nowhere. It waits for no channel: who
    // is not answered, be it that the channel is locked, that they are refused or that the request is
    // a repeated one, posts by `Post`. Request ids have to differ.
    /// Posts entries, each in a channel of its own, as far as nothing is in the way.
    PostTogether<'a> of many, "false AS unrestricted, NULL::uuid AS thread_root_id,
        '{}'::text[] AS mentioned_user_ids, false AS mentions_everyone" -> EntryRow {
        id: Vec<ChatEntryId> => Array<sql_types::Uuid>,
        channel_id: Vec<ChannelId> => Array<sql_types::Uuid>,
        user_id: Vec<Option<&'a str>> => Array<Nullable<Text>>,
        type_: Vec<EntryType> => Array<Text>,
        text: Vec<&'a str> => Array<Text>,
        words: Vec<String> => Array<Text>,
        metadata: Vec<&'a Value> => Array<Jsonb>,
        mentions_here: Vec<bool> => Array<Bool>,
        broadcasts: Vec<bool> => Array<Bool>,
        request_id: Vec<Option<&'a str>> => Array<Nullable<Text>>,
        request_hash: Vec<Option<&'a [u8]>> => Array<Nullable<sql_types::Bytea>>,
        method: Vec<&'a str> => Array<Text>,
        actor_kind: Vec<&'a str> => Array<Text>,
        actor_id: Vec<&'a str> => Array<Text>,
        caller: Vec<&'a str> => Array<Text>,
        correlation_id: Vec<&'a str> => Array<Text>,
        tenant_number: Vec<i32> => Array<Integer>,
    }
    post!(" SKIP LOCKED", "", "", "true", "", "NULL::jsonb", "", concat!("
        )", append_events!(each)), "", " FROM e")
}

/// Posts an entry.
///
/// # Errors
/// There is no such channel for who acts, they may not post or mention everyone there, it is
/// archived, there is no such entry to reply to, or a file is not theirs or of another entry.
pub async fn post(conn: &mut TenantConn, new: NewEntry) -> Result<Entry, Error> {
    if conn.facts().unrestricted.is_none()
        && let Some(entry) = try_to_post(conn, &new).await?
    {
        return Ok(entry);
    }
    // It goes on record, or somebody was taken out while it waited for the channel: now that is waited
    // for before anything is read.
    conn.transaction(async |conn| {
        channel::hold(conn, new.channel_id).await?;
        let posted = try_to_post(conn, &new).await?;
        audit::note(conn, new.channel_id).await?;
        posted.ok_or(Error::Aborted(Conflict::Transaction))
    })
    .await
}

/// Posts entries that reach out nowhere, each in a channel of its own, with request ids that differ.
/// Those come back for which nothing was in the way.
///
/// # Errors
/// None was posted, or it is not known whether.
pub async fn post_together(
    conn: &mut TenantConn,
    all: &[(&Facts, &NewEntry)],
) -> Result<Vec<Entry>, DieselError> {
    let requests = || all.iter().map(|(_, new)| new.request_id.as_ref());
    let facts = || all.iter().map(|(facts, _)| facts);
    let new = || all.iter().map(|(_, new)| new);
    let statement = PostTogether {
        id: new().map(|new| new.id).collect(),
        channel_id: new().map(|new| new.channel_id).collect(),
        user_id: facts().map(|facts| facts.actor.user_id()).collect(),
        type_: new().map(|new| new.entry_type).collect(),
        text: new().map(|new| new.text.as_str()).collect(),
        words: new().map(|new| vector(&new.text)).collect(),
        metadata: new().map(|new| &new.metadata).collect(),
        mentions_here: new().map(|new| new.mentions.here).collect(),
        broadcasts: new().map(|new| new.mentions.here).collect(),
        request_id: requests()
            .map(|request| Some(request?.id.as_str()))
            .collect(),
        request_hash: requests()
            .map(|request| Some(request?.hash.as_slice()))
            .collect(),
        method: requests()
            .map(|request| request.map_or("", |request| request.method))
            .collect(),
        actor_kind: facts().map(|facts| facts.actor.kind()).collect(),
        actor_id: facts().map(|facts| facts.actor.id()).collect(),
        caller: facts().map(|facts| facts.caller.service.as_str()).collect(),
        correlation_id: facts().map(|facts| &*facts.correlation_id).collect(),
        tenant_number: vec![conn.tenant_number(); all.len()],
        life: PhantomData,
    };
    statement.load(conn).await
}

/// Posts an entry; `None` if somebody was taken out of the channel meanwhile.
async fn try_to_post(conn: &mut TenantConn, new: &NewEntry) -> Result<Option<Entry>, Error> {
    let facts = conn.facts().clone();
    let request = new.request_id.as_ref();
    let statement = Post {
        id: new.id,
        channel_id: new.channel_id,
        user_id: facts.actor.user_id(),
        unrestricted: facts.unrestricted.is_some(),
        thread_root_id: new.thread_root_id,
        type_: new.entry_type,
        text: &new.text,
        words: &vector(&new.text),
        metadata: &new.metadata,
        attachment_ids: &new.attachments,
        mentioned_user_ids: &new.mentions.user_ids,
        mentions_everyone: new.mentions.everyone,
        mentions_here: new.mentions.here,
        broadcasts: new.mentions.everyone || new.mentions.here,
        request_id: request.map(|request| request.id.as_str()),
        request_hash: request.map(|request| request.hash.as_slice()),
        method: request.map_or("", |request| request.method),
        actor_kind: facts.actor.kind(),
        actor_id: facts.actor.id(),
        caller: &facts.caller.service,
        correlation_id: &facts.correlation_id,
        tenant_number: conn.tenant_number(),
        life: PhantomData,
    };
    let posted = statement.get_result(conn).await.optional();
    let posted: Option<(Option<String>, Option<Entry>)> =
        posted.map_err(|error| root_gone(error, new.thread_root_id))?;
    let missing = || Error::not_found("channel", new.channel_id);
    let (refusal, entry) = posted.ok_or_else(missing)?;
    if entry.is_some() {
        return Ok(entry);
    }
    match refusal.as_deref() {
        Some("unseen") => return Err(missing()),
        Some("stale") => return Ok(None),
        _ => {}
    }
    // A repeated request comes first: its answer does not depend on what has happened since.
    if let Some(request) = request
        && let Some(answer) = request_id::answer(conn, request).await?
    {
        return Ok(Some(answer));
    }
    if refusal.as_deref() == Some("files") {
        attachment::refuse(conn, &new.attachments).await?;
        return Err(Error::Aborted(Conflict::Transaction));
    }
    let channel = new.channel_id.to_string();
    let lacks = |capability: Capability| {
        let capability = capability.as_str();
        let channel = channel.clone();
        Error::PermissionDenied(Denial::Capability {
            channel,
            capability,
        })
    };
    Err(match (refusal.as_deref(), new.thread_root_id) {
        (Some("post"), _) => lacks(Capability::Post),
        (Some("broadcast"), _) => lacks(Capability::Broadcast),
        (Some("archived"), _) => Error::FailedPrecondition(Precondition::ChannelArchived(channel)),
        (Some("root"), Some(root)) => Error::not_found("chat_entry", root),
        (other, _) => Error::internal(format!("an entry was not posted: {other:?}")),
    })
}

/// Tells of a thread that was removed, its time over, while somebody replied.
fn root_gone(error: DieselError, root: Option<ChatEntryId>) -> Error {
    match (&error, root) {
        (
            DieselError::DatabaseError(DatabaseErrorKind::ForeignKeyViolation, violation),
            Some(root),
        ) if violation.constraint_name() == Some("chat_entries_thread_root_id_fkey") => {
            Error::not_found("chat_entry", root)
        }
        _ => error.into(),
    }
}
