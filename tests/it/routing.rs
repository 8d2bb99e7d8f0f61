//! Routing: whom conversations are given to when nobody says, and never past a capacity.

use std::collections::BTreeMap;

use communication_service::pb::{
    AccountPolicy, Agent, AutoAssignConversationRequest, Conversation, ConversationStatus,
    GetAccountPolicyRequest, ListAgentsRequest, ListConversationsRequest, ReopenPolicy, Routing,
    UpdateAccountPolicyRequest, UpdateAgentRequest,
};
use prost_types::FieldMask;
use tonic::{Code, Status};

use crate::harness::{TestServer, TestTenant, Whatsapp, eventually, refusal};

struct Desk {
    _server: TestServer,
    tenant: TestTenant,
    account: String,
}

impl Desk {
    /// A tenant whose conversations are routed.
    async fn new(routing: Routing, agents: &[&str]) -> Self {
        let server = TestServer::start().await;
        let tenant = server.tenant().await;
        let account = tenant.conversation().await.channel_account_id;
        let desk = Self {
            _server: server,
            tenant,
            account,
        };
        desk.set(|policy| {
            policy.routing = Some(routing.into());
            policy.agent_ids = agents.iter().map(ToString::to_string).collect();
        })
        .await
        .unwrap();
        desk
    }

    async fn set(
        &self,
        change: impl FnOnce(&mut UpdateAccountPolicyRequest),
    ) -> Result<AccountPolicy, Status> {
        let mut request = UpdateAccountPolicyRequest {
            tenant: self.tenant.slug(),
            channel_account_id: self.account.clone(),
            ..Default::default()
        };
        change(&mut request);
        let answer = self
            .tenant
            .inbox
            .clone()
            .update_account_policy(request)
            .await?;
        Ok(answer.into_inner().policy.unwrap())
    }

    async fn agent(&self, user: &str, change: impl FnOnce(&mut UpdateAgentRequest)) -> Agent {
        let mut request = UpdateAgentRequest {
            tenant: self.tenant.slug(),
            user_id: user.to_owned(),
            ..Default::default()
        };
        change(&mut request);
        let answer = self.tenant.inbox.clone().update_agent(request).await;
        answer.unwrap().into_inner().agent.unwrap()
    }

    async fn route(&self, conversation: &Conversation, reassign: bool) -> (Conversation, bool) {
        let request = AutoAssignConversationRequest {
            tenant: self.tenant.slug(),
            conversation_id: conversation.id.clone(),
            reassign,
            ..Default::default()
        };
        let mut inbox = self.tenant.inbox.clone();
        let answer = inbox.auto_assign_conversation(request).await.unwrap();
        let answer = answer.into_inner();
        (answer.conversation.unwrap(), answer.assigned)
    }

    async fn agents(&self) -> BTreeMap<String, i64> {
        let request = ListAgentsRequest {
            tenant: self.tenant.slug(),
            page_size: 500,
            ..Default::default()
        };
        let answer = self.tenant.inbox.clone().list_agents(request).await;
        let agents = answer.unwrap().into_inner().agents.into_iter();
        agents
            .map(|agent| (agent.user_id, agent.open_count))
            .collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn new_conversations_go_round_and_skip_who_is_not_there() {
    let desk = Desk::new(Routing::RoundRobin, &["c", "a", "b"]).await;
    let mut given = Vec::new();
    for _ in 0..4 {
        let conversation = desk.tenant.conversation().await;
        assert_eq!(conversation.status(), ConversationStatus::Open);
        given.push(conversation.assignee_id);
    }
    assert_eq!(given, ["c", "a", "b", "c"]);
    desk.agent("a", |agent| agent.available = Some(false)).await;
    assert_eq!(desk.tenant.conversation().await.assignee_id, "b");
    assert_eq!(desk.tenant.conversation().await.assignee_id, "c");
    // Back again, nobody has to make up for the turns that were missed.
    desk.agent("a", |agent| agent.available = Some(true)).await;
    assert_eq!(desk.tenant.conversation().await.assignee_id, "a");
    assert_eq!(desk.tenant.conversation().await.assignee_id, "b");
    // Who joins later is next once, and not for all that went before.
    let users = ["a", "b", "c", "d"].map(ToOwned::to_owned);
    desk.set(|policy| policy.agent_ids = users.to_vec())
        .await
        .unwrap();
    let mut given = Vec::new();
    for _ in 0..5 {
        given.push(desk.tenant.conversation().await.assignee_id);
    }
    assert_eq!(
        given.iter().filter(|user| *user == "d").count(),
        1,
        "{given:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_the_fewest_is_next() {
    let desk = Desk::new(Routing::LeastOpen, &["a", "b"]).await;
    desk.set(|policy| policy.routing_team_id = Some("support".to_owned()))
        .await
        .unwrap();
    let first = desk.tenant.conversation().await;
    assert_eq!(
        (first.assignee_id.as_str(), first.team_id.as_str()),
        ("a", "support")
    );
    let second = desk.tenant.conversation().await;
    assert_eq!(second.assignee_id, "b");
    desk.tenant.archive(&second).await;
    assert_eq!(desk.tenant.conversation().await.assignee_id, "b");
    assert_eq!(desk.tenant.conversation().await.assignee_id, "a");
    assert_eq!(
        desk.agents().await,
        BTreeMap::from([("a".to_owned(), 2), ("b".to_owned(), 1)])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_at_once_exceed_no_capacity_and_give_none_to_two() {
    let desk = Desk::new(Routing::None, &[]).await;
    let mut conversations = Vec::new();
    for _ in 0..40 {
        conversations.push(desk.tenant.conversation().await);
    }
    for (user, capacity) in [("a", 5), ("b", 9), ("c", 0), ("d", 11)] {
        desk.agent(user, |agent| agent.capacity = Some(capacity))
            .await;
    }
    let users = ["a", "b", "c", "d"].map(ToOwned::to_owned);
    desk.set(|policy| {
        policy.routing = Some(Routing::LeastOpen.into());
        policy.agent_ids = users.to_vec();
    })
    .await
    .unwrap();
    // Each conversation is asked for about one and a half times.
    let calls = (0..64).map(|call| {
        let conversation = conversations[call % conversations.len()].clone();
        let desk = &desk;
        async move { desk.route(&conversation, false).await }
    });
    let answers = futures_util::future::join_all(calls).await;
    let assigned = answers.iter().filter(|(_, assigned)| *assigned).count();
    assert_eq!(assigned, 25);
    let mut owners: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (conversation, assigned) in &answers {
        if *assigned {
            let owners = owners.entry(conversation.id.clone()).or_default();
            owners.push(conversation.assignee_id.clone());
        }
    }
    assert!(
        owners.values().all(|owners| owners.len() == 1),
        "{owners:?}"
    );
    let expected = [("a", 5), ("b", 9), ("c", 0), ("d", 11)];
    let expected: BTreeMap<_, _> = expected.map(|(user, n)| (user.to_owned(), n)).into();
    assert_eq!(desk.agents().await, expected);
    let request = ListConversationsRequest {
        tenant: desk.tenant.slug(),
        unassigned: Some(true),
        page_size: 500,
        ..Default::default()
    };
    let rest = desk
        .tenant
        .inbox
        .clone()
        .list_conversations(request)
        .await
        .unwrap();
    // One was made with the tenant, before there was any routing.
    assert_eq!(rest.into_inner().conversations.len(), 41 - 25);
}

#[tokio::test(flavor = "multi_thread")]
async fn capacities_hold_over_accounts_and_by_webhook() {
    let server = TestServer::start().await;
    let whatsapp = Whatsapp::connected(&server).await;
    let number = whatsapp.connect(&server).await;
    let tenant = whatsapp.tenant.clone();
    let mut request = tenant.new_conversation();
    request.channel = communication_service::pb::Channel::Email.into();
    let mail = tenant.create(request).await;
    let desk = Desk {
        _server: server,
        account: mail.channel_account_id.clone(),
        tenant,
    };
    desk.agent("a", |agent| agent.capacity = Some(1)).await;
    let round = |policy: &mut UpdateAccountPolicyRequest| {
        policy.routing = Some(Routing::RoundRobin.into());
        policy.agent_ids = vec!["a".to_owned()];
    };
    desk.set(round).await.unwrap();
    let mobile = Desk {
        account: number.id,
        tenant: desk.tenant.clone(),
        _server: TestServer::start().await,
    };
    mobile.set(round).await.unwrap();
    whatsapp.post_sample(&desk._server, "02_text.json").await;
    let there = async || whatsapp.conversations().await.len() == 2;
    eventually("the message is there", there).await;
    let conversations = whatsapp.conversations().await;
    let new = conversations.iter().find(|one| one.id != mail.id).unwrap();
    assert_eq!(new.assignee_id, "a");
    // One is all that they take, from whichever account.
    assert_eq!(
        desk.route(&mail, false).await,
        (desk.tenant.get(&mail).await, false)
    );
    desk.tenant.archive(new).await;
    let (given, assigned) = desk.route(&mail, false).await;
    assert_eq!((given.assignee_id.as_str(), assigned), ("a", true));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fixed_routing_leaves_out_who_is_full_and_keeps_the_team() {
    let desk = Desk::new(Routing::Fixed, &[]).await;
    desk.set(|policy| {
        policy.routing_assignee_id = Some("boss".to_owned());
        policy.routing_team_id = Some("sales".to_owned());
    })
    .await
    .unwrap();
    let first = desk.tenant.conversation().await;
    assert_eq!(
        (first.assignee_id.as_str(), first.team_id.as_str()),
        ("boss", "sales")
    );
    desk.agent("boss", |agent| agent.capacity = Some(1)).await;
    let second = desk.tenant.conversation().await;
    assert_eq!(
        (second.assignee_id.as_str(), second.team_id.as_str()),
        ("", "sales")
    );
    // Who has it already keeps it, unless it is to be routed anew.
    assert!(!desk.route(&first, false).await.1);
    desk.tenant.archive(&first).await;
    let (given, assigned) = desk.route(&second, false).await;
    assert_eq!((given.assignee_id.as_str(), assigned), ("boss", true));
    desk.set(|policy| policy.routing_assignee_id = Some("jon".to_owned()))
        .await
        .unwrap();
    let (given, assigned) = desk.route(&second, true).await;
    assert_eq!((given.assignee_id.as_str(), assigned), ("jon", true));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_says_what_holds_and_is_changed_by_mask_and_etag() {
    let desk = Desk::new(Routing::None, &[]).await;
    let get = GetAccountPolicyRequest {
        tenant: desk.tenant.slug(),
        channel_account_id: desk.account.clone(),
    };
    let policy = desk
        .tenant
        .inbox
        .clone()
        .get_account_policy(get)
        .await
        .unwrap();
    let policy = policy.into_inner().policy.unwrap();
    assert_eq!(policy.reopen_policy(), ReopenPolicy::Always);
    assert_eq!(policy.routing(), Routing::None);
    let within = |request: &mut UpdateAccountPolicyRequest| {
        request.reopen_policy = Some(ReopenPolicy::Within.into());
    };
    let (code, _, fields) = refusal(desk.set(within).await.map(tonic::Response::new));
    assert_eq!(
        (code, fields),
        (Code::InvalidArgument, vec!["reopen_days".to_owned()])
    );
    let changed = desk
        .set(|request| {
            within(request);
            request.reopen_days = Some(14);
            request.etag = policy.etag.clone();
        })
        .await
        .unwrap();
    assert_eq!(
        (changed.reopen_policy(), changed.reopen_days),
        (ReopenPolicy::Within, 14)
    );
    let stale = desk.set(|request| request.etag = policy.etag.clone()).await;
    let (code, reason, _) = refusal(stale.map(tonic::Response::new));
    assert_eq!((code, reason.as_str()), (Code::Aborted, "ETAG_MISMATCH"));
    let cleared = desk
        .set(|request| {
            request.update_mask = Some(FieldMask {
                paths: vec!["reopen_policy".to_owned()],
            });
        })
        .await
        .unwrap();
    assert_eq!(
        (cleared.reopen_policy(), cleared.reopen_days),
        (ReopenPolicy::Always, 0)
    );
    let refused = desk
        .set(|request| request.agent_ids = vec![String::new()])
        .await;
    let (_, _, fields) = refusal(refused.map(tonic::Response::new));
    assert_eq!(fields, ["agent_ids[0]"]);
}
