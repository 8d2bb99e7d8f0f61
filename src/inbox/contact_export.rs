//! The export of a person: all that is kept of them, piece by piece, at the reader's pace.

use std::collections::VecDeque;

use futures_util::{Stream, stream};

use super::contact::{self, Profile};
use super::contact_merge::{self, Moved};
use super::conversation::{Conversation, Status};
use super::listing::{self, ConversationFilter, Position};
use super::message::Message;
use super::message_list;
use super::revision::{self, Revision};
use super::schedule::{self, Scheduled};
use crate::error::Error;
use crate::ids::{ContactId, ConversationId, MessageId};
use crate::page::PageSize;
use crate::tenant::{TenantConn, TenantScope};

/// How many messages are read at a time: each may have 100 KiB.
const MESSAGES: i32 = 100;

/// A piece of what is kept of a person.
#[derive(Debug)]
pub enum Piece {
    /// The contact, or one that was merged into it.
    Contact(Profile),
    /// A merge of two of them.
    Merge(Moved),
    /// A conversation.
    Conversation(Box<Conversation>),
    /// A message of the conversation before it.
    Message(Box<Message>),
    /// A message that is to be sent in the conversation before it.
    Scheduled(Box<Scheduled>),
    /// What the message before it said before.
    Revision(Box<Revision>),
}

/// Streams all that is kept of a person. A connection is held only while a few pieces are read.
///
/// # Errors
/// There is no such contact, or it was merged into another.
pub async fn export(
    scope: TenantScope,
    id: ContactId,
) -> Result<impl Stream<Item = Result<Piece, Error>> + Send + use<>, Error> {
    let mut conn = scope.conn().await?;
    contact::get(&mut conn, id)
        .await?
        .contact
        .check_unmerged()?;
    let family = contact_merge::family(&mut conn, id).await?;
    drop(conn);
    let export = Export {
        scope,
        family,
        read: VecDeque::new(),
        next: Next::Contacts(0),
    };
    Ok(stream::try_unfold(export, async |mut export| {
        let piece = export.piece().await?;
        Ok(piece.map(|piece| (piece, export)))
    }))
}

struct Export {
    scope: TenantScope,
    /// The contact, then those merged into it.
    family: Vec<ContactId>,
    read: VecDeque<Piece>,
    next: Next,
}

/// What has to be read next.
enum Next {
    /// The contact of this place in the family.
    Contacts(usize),
    Merges(Option<crate::ids::ContactMergeId>),
    Conversation(Option<Position>),
    Messages {
        of: ConversationId,
        after: i64,
        up_to: i64,
        place: Position,
    },
    Nothing,
}

impl Export {
    async fn piece(&mut self) -> Result<Option<Piece>, Error> {
        loop {
            if let Some(piece) = self.read.pop_front() {
                return Ok(Some(piece));
            }
            if matches!(self.next, Next::Nothing) {
                return Ok(None);
            }
            let mut conn = self.scope.conn().await?;
            self.next = self.read_on(&mut conn).await?;
        }
    }

    async fn read_on(&mut self, conn: &mut TenantConn) -> Result<Next, Error> {
        match &self.next {
            Next::Contacts(place) => {
                let Some(id) = self.family.get(*place) else {
                    return Ok(Next::Merges(None));
                };
                let next = Next::Contacts(place + 1);
                self.read
                    .push_back(Piece::Contact(contact::get(conn, *id).await?));
                Ok(next)
            }
            Next::Merges(before) => {
                let size = PageSize::new(MESSAGES)?;
                let merges = contact_merge::list(conn, Some(&self.family), *before, size).await?;
                let next = match merges.last() {
                    Some(last) => Next::Merges(Some(last.merge.id)),
                    None => Next::Conversation(None),
                };
                self.read.extend(merges.into_iter().map(Piece::Merge));
                Ok(next)
            }
            Next::Conversation(after) => {
                let filter = ConversationFilter {
                    statuses: vec![
                        Status::New,
                        Status::Open,
                        Status::Replied,
                        Status::Qualified,
                        Status::Archived,
                    ],
                    channels: None,
                    channel_account_id: None,
                    contact_id: self.family.first().copied(),
                    updated_since: None,
                    assignee_id: None,
                    team_id: None,
                    unassigned: None,
                    labels: Vec::new(),
                    priorities: None,
                    qualified: None,
                    snoozed: None,
                    unread: None,
                    text: None,
                };
                let order = listing::Order::OldestFirst;
                let size = PageSize::new(1)?;
                let found = listing::list(conn, &filter, order, *after, size).await?;
                let Some((conversation, _)) = found.into_iter().next() else {
                    return Ok(Next::Nothing);
                };
                let next = Next::Messages {
                    of: conversation.id,
                    after: 0,
                    up_to: conversation.last_sequence,
                    place: conversation.position(),
                };
                let id = conversation.id;
                self.read
                    .push_back(Piece::Conversation(Box::new(conversation)));
                let size = PageSize::new(MESSAGES)?;
                let mut after = None;
                loop {
                    let unsent = schedule::list(conn, Some(id), after, size).await?;
                    let Some(last) = unsent.last() else { break };
                    after = Some((last.send_at, last.id));
                    let unsent = unsent.into_iter().map(Box::new).map(Piece::Scheduled);
                    self.read.extend(unsent);
                }
                Ok(next)
            }
            Next::Messages {
                of,
                after,
                up_to,
                place,
            } => {
                let (of, up_to, place) = (*of, *up_to, *place);
                let order = message_list::Order::OldestFirst;
                let size = PageSize::new(MESSAGES)?;
                let mut messages =
                    message_list::list(conn, of, order, Some(*after), true, size).await?;
                messages.retain(|message| message.sequence <= up_to);
                let next = match messages.last() {
                    Some(last) => Next::Messages {
                        of,
                        after: last.sequence,
                        up_to,
                        place,
                    },
                    None => Next::Conversation(Some(place)),
                };
                for message in messages {
                    let id = message.id;
                    let has_said_more = message.edits > 0 || message.deleted_at.is_some();
                    self.read.push_back(Piece::Message(Box::new(message)));
                    if has_said_more {
                        self.read.extend(said_before(conn, id).await?);
                    }
                }
                Ok(next)
            }
            Next::Nothing => Ok(Next::Nothing),
        }
    }
}

/// Reads all that a message said before.
async fn said_before(conn: &mut TenantConn, id: MessageId) -> Result<Vec<Piece>, Error> {
    let size = PageSize::new(MESSAGES)?;
    let mut pieces = Vec::new();
    let mut before = None;
    loop {
        let said = revision::list(conn, id, before, size).await?;
        let Some(last) = said.last() else {
            return Ok(pieces);
        };
        before = Some(last.number);
        pieces.extend(said.into_iter().map(Box::new).map(Piece::Revision));
    }
}
