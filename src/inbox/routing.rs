//! Routing: whom a conversation is given to when nobody says.
//!
//! Who routes holds the account's row, which makes turns, and then the rows of all its agents in
//! one order, which makes capacities hold over all accounts: what an agent has is counted after
//! that by a statement of its own, which sees all that was routed before.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel_async::{AsyncConnection as _, RunQueryDsl};

use super::change::{Alteration, Assignment, ChangeKind, Target, alter};
use super::conversation::{self, Conversation};
use super::policy::{AccountPolicy, Routing};
use crate::error::{Error, Precondition};
use crate::etag::{check_etag, etag};
use crate::ids::{AgentId, ChannelAccountId, ContactIdentityId, ConversationId};
use crate::schema::tenant::{
    agents, channel_account_agents, channel_accounts, contact_identities, inbox_conversations,
};
use crate::tenant::TenantConn;
use uuid::Uuid;

/// Whom a conversation is to be given to, and why.
#[derive(Debug)]
pub struct Choice {
    /// To whom.
    pub assignment: Assignment,
    /// By which rule.
    pub rule: &'static str,
    /// Whose turn it was, at which account.
    turn: Option<(ChannelAccountId, AgentId)>,
}

/// An agent, as far as routing looks at them.
#[derive(Debug)]
struct Candidate {
    agent: AgentId,
    user_id: String,
    /// The number of their last turn, and their place among those who had none.
    turn: (i64, i32),
    open: i64,
}

impl Candidate {
    /// Chooses of those who are free.
    fn choose(routing: Routing, free: Vec<Self>) -> Option<Self> {
        match routing {
            Routing::RoundRobin => free.into_iter().min_by_key(|one| one.turn),
            Routing::LeastOpen => free.into_iter().min_by_key(|one| (one.open, one.turn)),
            Routing::None | Routing::Fixed => None,
        }
    }
}

/// Chooses whom the conversations of an identity's account are given to. To be called in a
/// transaction, which holds the locks until its end; `took` has to be called if the choice is
/// followed. The conversation itself, if it is given to somebody already, counts for nobody.
pub async fn choose(
    conn: &mut TenantConn,
    identity: ContactIdentityId,
    except: Option<ConversationId>,
) -> Result<Option<Choice>, Error> {
    let account: AccountPolicy = contact_identities::table
        .inner_join(channel_accounts::table)
        .filter(contact_identities::id.eq(identity))
        .select(AccountPolicy::as_select())
        .first(conn)
        .await?;
    let team_id = account.routing_team_id;
    match account.routing {
        Routing::None => Ok(None),
        Routing::Fixed => {
            let assignee_id = match account.routing_assignee_id {
                Some(user_id) if is_free(conn, &user_id, except).await? => Some(user_id),
                _ => None,
            };
            let assignment = Assignment {
                assignee_id,
                team_id,
            };
            let somebody = assignment.assignee_id.is_some() || assignment.team_id.is_some();
            Ok(somebody.then_some(Choice {
                assignment,
                rule: "route_fixed",
                turn: None,
            }))
        }
        routing @ (Routing::RoundRobin | Routing::LeastOpen) => {
            let free = free_agents(conn, account.id, routing, except).await?;
            let Some(chosen) = Candidate::choose(routing, free) else {
                return Ok(None);
            };
            Ok(Some(Choice {
                assignment: Assignment {
                    assignee_id: Some(chosen.user_id),
                    team_id,
                },
                rule: match routing {
                    Routing::RoundRobin => "route_round_robin",
                    _ => "route_least_open",
                },
                turn: Some((account.id, chosen.agent)),
            }))
        }
    }
}

/// Records that a choice was followed: whose turn it was comes last from now on.
pub async fn took(conn: &mut TenantConn, choice: &Choice) -> Result<(), Error> {
    let Some((account, agent)) = choice.turn else {
        return Ok(());
    };
    let last: Option<i64> = channel_account_agents::table
        .filter(channel_account_agents::channel_account_id.eq(account))
        .select(diesel::dsl::max(channel_account_agents::turn))
        .first(conn)
        .await?;
    diesel::update(channel_account_agents::table.find((account, agent)))
        .set(channel_account_agents::turn.eq(last.unwrap_or(0) + 1))
        .execute(conn)
        .await?;
    Ok(())
}

/// The agents of an account who are available and below capacity, locked.
async fn free_agents(
    conn: &mut TenantConn,
    account: ChannelAccountId,
    routing: Routing,
    except: Option<ConversationId>,
) -> Result<Vec<Candidate>, Error> {
    channel_accounts::table
        .find(account)
        .select(channel_accounts::id)
        .for_no_key_update()
        .first::<ChannelAccountId>(conn)
        .await?;
    type Row = (AgentId, String, bool, Option<i32>);
    let locked: Vec<Row> = agents::table
        .filter(
            agents::id.eq_any(
                channel_account_agents::table
                    .filter(channel_account_agents::channel_account_id.eq(account))
                    .select(channel_account_agents::agent_id),
            ),
        )
        .order(agents::user_id)
        .select((
            agents::id,
            agents::user_id,
            agents::is_available,
            agents::capacity,
        ))
        .for_no_key_update()
        .load(conn)
        .await?;
    let available: Vec<_> = locked
        .into_iter()
        .filter(|(_, _, is_available, _)| *is_available)
        .collect();
    // In turns, it does not matter how many somebody has who has no limit.
    let counted = available
        .iter()
        .filter(|(_, _, _, capacity)| routing == Routing::LeastOpen || capacity.is_some());
    let users: Vec<_> = counted.map(|(_, user_id, ..)| user_id).collect();
    let open: Vec<(Option<String>, i64)> = inbox_conversations::table
        .filter(inbox_conversations::assignee_id.eq_any(users))
        .filter(inbox_conversations::archived_at.is_null())
        .filter(inbox_conversations::deleted_at.is_null())
        .filter(inbox_conversations::id.ne(except.unwrap_or(ConversationId(Uuid::nil()))))
        .group_by(inbox_conversations::assignee_id)
        .select((inbox_conversations::assignee_id, diesel::dsl::count_star()))
        .load(conn)
        .await?;
    let turns: Vec<(AgentId, i64, i32)> = channel_account_agents::table
        .filter(channel_account_agents::channel_account_id.eq(account))
        .select((
            channel_account_agents::agent_id,
            channel_account_agents::turn,
            channel_account_agents::position,
        ))
        .load(conn)
        .await?;
    let mut free = Vec::new();
    for (agent, user_id, _, capacity) in available {
        let open = open
            .iter()
            .find(|(assignee, _)| assignee.as_ref() == Some(&user_id))
            .map_or(0, |(_, open)| *open);
        let turn = turns.iter().find(|(of, ..)| *of == agent);
        if let Some((_, turn, position)) = turn
            && capacity.is_none_or(|capacity| open < i64::from(capacity))
        {
            free.push(Candidate {
                agent,
                user_id,
                turn: (*turn, *position),
                open,
            });
        }
    }
    Ok(free)
}

/// Tells whether a user may be given one more conversation: who is not known as an agent may.
async fn is_free(
    conn: &mut TenantConn,
    user_id: &str,
    except: Option<ConversationId>,
) -> Result<bool, Error> {
    let agent: Option<(bool, Option<i32>)> = agents::table
        .filter(agents::user_id.eq(user_id))
        .select((agents::is_available, agents::capacity))
        .for_no_key_update()
        .first(conn)
        .await
        .optional()?;
    match agent {
        None | Some((true, None)) => Ok(true),
        Some((false, _)) => Ok(false),
        Some((true, Some(capacity))) => {
            let open: i64 = inbox_conversations::table
                .filter(inbox_conversations::assignee_id.eq(user_id))
                .filter(inbox_conversations::archived_at.is_null())
                .filter(inbox_conversations::deleted_at.is_null())
                .filter(inbox_conversations::id.ne(except.unwrap_or(ConversationId(Uuid::nil()))))
                .count()
                .get_result(conn)
                .await?;
            Ok(open < i64::from(capacity))
        }
    }
}

/// Gives a conversation to whom the routing of its account says; tells whether it did.
///
/// # Errors
/// There is no such conversation, its etag is another one, or it is archived.
pub async fn auto_assign(
    conn: &mut TenantConn,
    id: ConversationId,
    etag: Option<String>,
    reassign: bool,
) -> Result<(Conversation, bool), Error> {
    let not_found = || Error::not_found("conversation", id);
    conn.transaction(async |conn| {
        let standing: Standing = inbox_conversations::table
            .filter(inbox_conversations::id.eq(id))
            .filter(inbox_conversations::deleted_at.is_null())
            .select((
                inbox_conversations::contact_identity_id,
                inbox_conversations::assignee_id,
                inbox_conversations::team_id,
                inbox_conversations::archived_at,
                inbox_conversations::edit_version,
                inbox_conversations::version,
            ))
            .for_no_key_update()
            .first(conn)
            .await
            .optional()?
            .ok_or_else(not_found)?;
        let (identity, assignee, team_id, archived_at, edit_version, version) = standing;
        check_etag(etag.as_deref(), self::etag(edit_version))?;
        if archived_at.is_some() {
            let archived = Precondition::ConversationArchived(id.to_string());
            return Err(Error::FailedPrecondition(archived));
        }
        let choice = match assignee {
            Some(_) if !reassign => None,
            _ => choose(conn, identity, Some(id)).await?,
        };
        // Whoever has it keeps it, unless somebody else is there to have it.
        let choice =
            choice.filter(|choice| assignee.is_none() || choice.assignment.assignee_id.is_some());
        let Some(choice) = choice else {
            let (conversation, _) = conversation::find(conn, id).await?.ok_or_else(not_found)?;
            return Ok((conversation, false));
        };
        if choice.assignment.assignee_id != assignee {
            took(conn, &choice).await?;
        }
        let assignment = Assignment {
            team_id: choice.assignment.team_id.or(team_id),
            ..choice.assignment
        };
        let change = Alteration {
            rule: choice.rule,
            assignment: Some(assignment),
            ..Alteration::new(ChangeKind::Assigned)
        };
        let conversation = alter(conn, Target { id, etag: None }, &change).await?;
        let assigned = conversation.version != version;
        Ok((conversation, assigned))
    })
    .await
}

/// A conversation, as far as routing looks at it.
type Standing = (
    ContactIdentityId,
    Option<String>,
    Option<String>,
    Option<DateTime<Utc>>,
    i64,
    i64,
);

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(user_id: &str, turn: (i64, i32), open: i64) -> Candidate {
        Candidate {
            agent: AgentId::new(),
            user_id: user_id.to_owned(),
            turn,
            open,
        }
    }

    fn chosen(routing: Routing, free: Vec<Candidate>) -> Option<String> {
        Candidate::choose(routing, free).map(|chosen| chosen.user_id)
    }

    #[test]
    fn whose_last_turn_is_longest_ago_is_next() {
        let free = || {
            vec![
                candidate("a", (7, 0), 0),
                candidate("b", (3, 1), 9),
                candidate("c", (3, 2), 1),
            ]
        };
        assert_eq!(chosen(Routing::RoundRobin, free()).as_deref(), Some("b"));
        assert_eq!(chosen(Routing::LeastOpen, free()).as_deref(), Some("a"));
        assert_eq!(chosen(Routing::RoundRobin, Vec::new()), None);
    }

    #[test]
    fn of_those_with_the_fewest_the_one_whose_turn_it_is_is_next() {
        let free = vec![
            candidate("a", (7, 0), 2),
            candidate("b", (3, 1), 2),
            candidate("c", (1, 2), 3),
        ];
        assert_eq!(chosen(Routing::LeastOpen, free).as_deref(), Some("b"));
    }
}
