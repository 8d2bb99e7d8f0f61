//! Policies of accounts and agents on the wire.

use crate::error::Error;
use crate::etag::etag;
use crate::field::{Fields, Mask};
use crate::ids::{ChannelAccountId, ConversationId};
use crate::inbox::agent::{Agent, AgentPatch};
use crate::inbox::policy::{Policy, PolicyPatch, ReopenPolicy, Routing};
use crate::page::PageSize;
use crate::pb;
use crate::time::to_timestamp;

const MAX_AGENTS: usize = 500;
const REOPEN_DAYS: std::ops::RangeInclusive<i32> = 1..=3650;
const CAPACITY: std::ops::RangeInclusive<i32> = 0..=100_000;

/// What `AutoAssignConversation` asks for.
pub struct AutoAssign {
    /// Of which conversation.
    pub id: ConversationId,
    /// Which etag it must have.
    pub etag: Option<String>,
    /// Whether one who has it already may lose it.
    pub reassign: bool,
}

impl TryFrom<pb::AutoAssignConversationRequest> for AutoAssign {
    type Error = Error;

    fn try_from(request: pb::AutoAssignConversationRequest) -> Result<Self, Error> {
        let mut fields = Fields::default();
        let conversation = &request.conversation_id;
        let auto_assign = Self {
            id: fields.required_id("conversation_id", conversation, ConversationId),
            etag: fields.etag(request.etag),
            reassign: request.reassign,
        };
        fields.finish()?;
        Ok(auto_assign)
    }
}

/// Reads the account of `GetAccountPolicy`.
pub fn policy_account(request: &pb::GetAccountPolicyRequest) -> Result<ChannelAccountId, Error> {
    let mut fields = Fields::default();
    let account = &request.channel_account_id;
    let id = fields.required_id("channel_account_id", account, ChannelAccountId);
    fields.finish()?;
    Ok(id)
}

/// What `UpdateAccountPolicy` asks for.
pub struct PolicyEdit {
    /// Of which account.
    pub id: ChannelAccountId,
    /// Which etag its policy must have.
    pub etag: Option<String>,
    /// What to change.
    pub patch: PolicyPatch,
    /// The users to choose from.
    pub agent_ids: Option<Vec<String>>,
}

impl TryFrom<pb::UpdateAccountPolicyRequest> for PolicyEdit {
    type Error = Error;

    fn try_from(request: pb::UpdateAccountPolicyRequest) -> Result<Self, Error> {
        const FIELDS: [&str; 6] = [
            "reopen_policy",
            "reopen_days",
            "routing",
            "routing_assignee_id",
            "routing_team_id",
            "agent_ids",
        ];
        let mut fields = Fields::default();
        let account = &request.channel_account_id;
        let id = fields.required_id("channel_account_id", account, ChannelAccountId);
        let mask = Mask::read(&mut fields, request.update_mask, &FIELDS);
        let mut patch = PolicyPatch::default();
        if mask.touches("reopen_policy", request.reopen_policy.is_some()) {
            let number = request.reopen_policy.unwrap_or_default();
            let policy = fields.choice::<pb::ReopenPolicy>("reopen_policy", number);
            patch.reopen_policy = Some(reopen_policy(policy));
        }
        if mask.touches("reopen_days", request.reopen_days.is_some()) {
            let days = request.reopen_days;
            if days.is_some_and(|days| !REOPEN_DAYS.contains(&days)) {
                fields.refuse("reopen_days", "must be 1 to 3650");
            }
            patch.reopen_days = Some(days);
        }
        if mask.touches("routing", request.routing.is_some()) {
            let number = request.routing.unwrap_or_default();
            patch.routing = Some(routing(fields.choice("routing", number)));
        }
        if mask.touches("routing_assignee_id", request.routing_assignee_id.is_some()) {
            let user = request.routing_assignee_id.unwrap_or_default();
            patch.routing_assignee_id = Some(fields.name_of_somebody("routing_assignee_id", user));
        }
        if mask.touches("routing_team_id", request.routing_team_id.is_some()) {
            let team = request.routing_team_id.unwrap_or_default();
            patch.routing_team_id = Some(fields.name_of_somebody("routing_team_id", team));
        }
        let agent_ids = mask
            .touches("agent_ids", !request.agent_ids.is_empty())
            .then(|| agent_ids(&mut fields, request.agent_ids));
        let etag = fields.etag(request.etag);
        fields.finish()?;
        Ok(Self {
            id,
            etag,
            patch,
            agent_ids,
        })
    }
}

/// Reads users, each once.
fn agent_ids(fields: &mut Fields, given: Vec<String>) -> Vec<String> {
    if given.len() > MAX_AGENTS {
        fields.refuse(
            "agent_ids",
            format!("must have at most {MAX_AGENTS} values"),
        );
        return Vec::new();
    }
    let mut users = Vec::new();
    for (index, user) in given.into_iter().enumerate() {
        let path = format!("agent_ids[{index}]");
        match fields.name_of_somebody(&path, user) {
            None => fields.refuse(path, "must not be empty"),
            Some(user) if users.contains(&user) => {}
            Some(user) => users.push(user),
        }
    }
    users
}

fn reopen_policy(policy: Option<pb::ReopenPolicy>) -> ReopenPolicy {
    match policy {
        None | Some(pb::ReopenPolicy::Unspecified | pb::ReopenPolicy::Always) => {
            ReopenPolicy::Always
        }
        Some(pb::ReopenPolicy::Within) => ReopenPolicy::Within,
        Some(pb::ReopenPolicy::Never) => ReopenPolicy::Never,
    }
}

fn routing(routing: Option<pb::Routing>) -> Routing {
    match routing {
        None | Some(pb::Routing::Unspecified | pb::Routing::None) => Routing::None,
        Some(pb::Routing::Fixed) => Routing::Fixed,
        Some(pb::Routing::RoundRobin) => Routing::RoundRobin,
        Some(pb::Routing::LeastOpen) => Routing::LeastOpen,
    }
}

impl From<Policy> for pb::AccountPolicy {
    fn from(policy: Policy) -> Self {
        let account = policy.account;
        let reopen_policy = match account.reopen_policy {
            ReopenPolicy::Always => pb::ReopenPolicy::Always,
            ReopenPolicy::Within => pb::ReopenPolicy::Within,
            ReopenPolicy::Never => pb::ReopenPolicy::Never,
        };
        let routing = match account.routing {
            Routing::None => pb::Routing::None,
            Routing::Fixed => pb::Routing::Fixed,
            Routing::RoundRobin => pb::Routing::RoundRobin,
            Routing::LeastOpen => pb::Routing::LeastOpen,
        };
        Self {
            channel_account_id: account.id.into(),
            reopen_policy: reopen_policy.into(),
            reopen_days: account.reopen_days.unwrap_or_default(),
            routing: routing.into(),
            routing_assignee_id: account.routing_assignee_id.unwrap_or_default(),
            routing_team_id: account.routing_team_id.unwrap_or_default(),
            agent_ids: policy.agent_ids,
            etag: etag(account.policy_version),
        }
    }
}

impl TryFrom<pb::UpdateAgentRequest> for AgentPatch {
    type Error = Error;

    fn try_from(request: pb::UpdateAgentRequest) -> Result<Self, Error> {
        let mut fields = Fields::default();
        let user_id = fields.name_of_somebody("user_id", request.user_id);
        if user_id.is_none() {
            fields.refuse("user_id", "is required");
        }
        let mask = Mask::read(&mut fields, request.update_mask, &["available", "capacity"]);
        let capacity = request.capacity;
        if capacity.is_some_and(|capacity| !CAPACITY.contains(&capacity)) {
            fields.refuse("capacity", "must be 0 to 100000");
        }
        let patch = Self {
            user_id: user_id.unwrap_or_default(),
            available: mask
                .touches("available", request.available.is_some())
                .then(|| request.available.unwrap_or_default()),
            capacity: mask
                .touches("capacity", capacity.is_some())
                .then_some(capacity),
        };
        fields.finish()?;
        Ok(patch)
    }
}

/// What `ListAgents` asks for.
pub struct AgentsPage {
    /// Those who are available, or the others.
    pub available: Option<bool>,
    /// How many.
    pub size: PageSize,
    /// From where on.
    pub token: String,
    /// What the page token is bound to.
    pub binding: Vec<u8>,
}

impl TryFrom<pb::ListAgentsRequest> for AgentsPage {
    type Error = Error;

    fn try_from(request: pb::ListAgentsRequest) -> Result<Self, Error> {
        Ok(Self {
            available: request.available,
            size: PageSize::new(request.page_size)?,
            token: request.page_token,
            binding: vec![match request.available {
                None => 0,
                Some(false) => 1,
                Some(true) => 2,
            }],
        })
    }
}

impl From<Agent> for pb::Agent {
    fn from(agent: Agent) -> Self {
        Self {
            user_id: agent.user_id,
            available: agent.is_available,
            capacity: agent.capacity,
            open_count: agent.open_count,
            update_time: Some(to_timestamp(agent.updated_at)),
            version: agent.version,
        }
    }
}
