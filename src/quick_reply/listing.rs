//! Lists of quick replies.

use std::marker::PhantomData;

use diesel::expression::Expression;
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::sql_types::{self, Array, BigInt, Bool, Nullable, Text};
use diesel_async::RunQueryDsl;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::language::Language;
use super::quick_reply::{QuickReply, owner, visible};
use crate::database::statement::statement;
use crate::error::Error;
use crate::fold::fold;
use crate::ids::QuickReplyId;
use crate::page::PageSize;
use crate::tenant::TenantConn;

/// The columns of a row as SQL types, in the order of `quick_reply_columns`.
type QuickReplyRow = <<QuickReply as Selectable<Pg>>::SelectExpression as Expression>::SqlType;

/// The columns of a `QuickReply`, in the order of its fields, of the table `q`.
macro_rules! quick_reply_columns {
    () => {
        "q.id, q.team_id, q.user_id, q.shortcut, q.title, q.text, q.language, q.variants,
            q.variables, q.metadata, q.attachments, q.usage_count, q.last_used_at, q.version, q.edit_version,
            q.created_at, q.updated_at, q.deleted_at"
    };
}

/// The order of a list of quick replies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// By shortcut.
    Shortcut,
    /// By title.
    Title,
    /// The most used first.
    MostUsed,
}

/// Which scope a list is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScopeFilter {
    /// Everything that can be seen.
    All,
    /// What is everybody's.
    Tenant,
    /// What is a team's.
    Team,
    /// What is the owner's.
    User,
}

/// Which quick replies to list.
#[derive(Debug)]
pub struct QuickReplyFilter {
    /// Of this scope.
    pub scope: ScopeFilter,
    /// Of this team.
    pub team_id: Option<String>,
    /// Of this owner.
    pub user_id: Option<String>,
    /// With a text for whoever wants this language.
    pub language: Option<Language>,
    /// With all of these words, folded.
    pub words: Vec<String>,
    /// Deleted ones too.
    pub deleted: bool,
}

/// Where a page of quick replies begins: beyond this one.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Position {
    /// Its folded shortcut or title, as the order asks; else empty.
    key: String,
    /// How often it was used.
    usage_count: i64,
    /// Its id.
    id: QuickReplyId,
}

impl QuickReply {
    /// Where the page after this quick reply begins.
    pub fn position(&self, order: Order) -> Position {
        let key = match order {
            Order::Shortcut => fold(&self.content.shortcut),
            Order::Title => fold(&self.content.title),
            Order::MostUsed => String::new(),
        };
        Position {
            key,
            usage_count: self.usage_count,
            id: self.id,
        }
    }
}

macro_rules! list_statement {
    ($(#[$doc:meta])* $name:ident, $beyond:ident: $rust:ty => $sql:ty, $condition:literal, $order:literal) => {
        statement! {
            // One walk down the index for nobody in particular and one for the owner, merged.
            $(#[$doc])*
            $name<'a> -> QuickReplyRow {
                users: &'a [String] => Array<Text>,
                team_id: Option<&'a str> => Nullable<Text>,
                of_teams: bool => Bool,
                languages: Option<&'a [&'a str]> => Nullable<Array<Text>>,
                words: &'a [String] => Array<Text>,
                deleted: bool => Bool,
                $beyond: $rust => $sql,
                beyond_id: Uuid => sql_types::Uuid,
                rows: i64 => BigInt,
            }
            concat!("
            SELECT ", quick_reply_columns!(), "
            FROM input CROSS JOIN LATERAL unnest(input.users) AS wanted (user_id) CROSS JOIN LATERAL (
                SELECT q.* FROM inbox_quick_replies q
                WHERE q.user_id = wanted.user_id AND ", $condition, "
                    AND (input.deleted OR q.deleted_at IS NULL)
                    AND (input.team_id IS NULL OR q.team_id = input.team_id)
                    AND (NOT input.of_teams OR q.team_id <> '')
                    AND (input.languages IS NULL OR q.languages && input.languages)
                    AND NOT EXISTS (
                        SELECT FROM unnest(input.words) AS word WHERE strpos(q.folded, word) = 0
                    )
                ORDER BY ", $order, "
                LIMIT input.rows
            ) q
            ORDER BY ", $order, "
            LIMIT (SELECT rows FROM input)")
        }
    };
}

list_statement! {
    /// Lists quick replies by shortcut.
    ByShortcut, beyond: &'a str => Text,
    "(q.shortcut_key, q.id) > (input.beyond, input.beyond_id)", "q.shortcut_key, q.id"
}

list_statement! {
    /// Lists quick replies by title.
    ByTitle, beyond: &'a str => Text,
    "(q.title_key, q.id) > (input.beyond, input.beyond_id)", "q.title_key, q.id"
}

list_statement! {
    /// Lists quick replies by how often they were used.
    ByUsage, beyond: i64 => BigInt,
    "(q.usage_count, q.id) < (input.beyond, input.beyond_id)", "q.usage_count DESC, q.id DESC"
}

/// Lists quick replies beyond a position.
pub async fn list(
    conn: &mut TenantConn,
    filter: &QuickReplyFilter,
    order: Order,
    beyond: Option<Position>,
    size: PageSize,
) -> Result<Vec<QuickReply>, Error> {
    let named = filter.user_id.as_deref();
    let owner = owner(conn, named);
    // Whose quick replies are asked for, and can be seen.
    let own = owner.filter(|owner| named.is_none_or(|named| named == owner));
    let users: Vec<String> = match filter.scope {
        ScopeFilter::All => visible(conn, None),
        ScopeFilter::Tenant | ScopeFilter::Team => vec![String::new()],
        ScopeFilter::User => own.into_iter().collect(),
    };
    let team_id = match filter.scope {
        ScopeFilter::Tenant => Some(""),
        ScopeFilter::All | ScopeFilter::Team | ScopeFilter::User => filter.team_id.as_deref(),
    };
    let of_teams = filter.scope == ScopeFilter::Team;
    let languages = filter.language.as_ref().map(Language::served_by);
    let languages = languages.as_deref();
    let (words, deleted) = (filter.words.as_slice(), filter.deleted);
    let (users, rows, life) = (users.as_slice(), size.rows(), PhantomData);
    let key = beyond.as_ref().map_or("", |position| &position.key);
    let after_id = beyond
        .as_ref()
        .map_or(Uuid::nil(), |position| position.id.0);
    let found = match order {
        Order::Shortcut => {
            ByShortcut {
                users,
                team_id,
                of_teams,
                languages,
                words,
                deleted,
                beyond: key,
                beyond_id: after_id,
                rows,
                life,
            }
            .load(conn)
            .await?
        }
        Order::Title => {
            ByTitle {
                users,
                team_id,
                of_teams,
                languages,
                words,
                deleted,
                beyond: key,
                beyond_id: after_id,
                rows,
                life,
            }
            .load(conn)
            .await?
        }
        Order::MostUsed => {
            let (count, id) = beyond.map_or((i64::MAX, Uuid::max()), |position| {
                (position.usage_count, position.id.0)
            });
            ByUsage {
                users,
                team_id,
                of_teams,
                languages,
                words,
                deleted,
                beyond: count,
                beyond_id: id,
                rows,
                life,
            }
            .load(conn)
            .await?
        }
    };
    Ok(found)
}
