//! How much who of the team has said, as far as somebody sees it.

use communication_service::pb::{
    Actor, ChannelRole, ChatActivity, ChatChannelKind, ChatEntryType, GetChatActivityRequest,
};
use prost_types::Timestamp;
use tonic::Status;

use crate::chat::{Team, missing, refused, team, why};
use crate::harness::{Tables, now, user};

const MEMBERS: [(&str, ChannelRole); 2] =
    [("ann", ChannelRole::Member), ("bob", ChannelRole::Guest)];

fn in_days(days: i64) -> Option<Timestamp> {
    Some(Timestamp {
        seconds: i64::try_from(now()).unwrap() + days * 86_400,
        nanos: 0,
    })
}

impl Team {
    fn range(&self, who: Option<Actor>) -> GetChatActivityRequest {
        GetChatActivityRequest {
            tenant: self.tenant.slug(),
            actor: who,
            start_time: in_days(-1),
            end_time: in_days(1),
            page_size: 1,
            ..Default::default()
        }
    }

    async fn activity(
        &self,
        mut request: GetChatActivityRequest,
    ) -> Result<Vec<ChatActivity>, Status> {
        let mut all = Vec::new();
        loop {
            let mut chat = self.tenant.chat.clone();
            let page = chat.get_chat_activity(request.clone()).await?.into_inner();
            all.extend(page.activities);
            if page.next_page_token.is_empty() {
                return Ok(all);
            }
            request.page_token = page.next_page_token;
        }
    }

    /// Who has posted how many entries, replies among them, in how many channels.
    async fn said(&self, request: GetChatActivityRequest) -> Vec<(String, [i64; 3])> {
        let all = self.activity(request).await.unwrap();
        let counts = all.into_iter().map(|it| {
            let counts = [it.entry_count, it.reply_count, it.channel_count];
            (it.user_id, counts)
        });
        counts.collect()
    }
}

fn of<const N: usize>(counts: [(&str, [i64; 3]); N]) -> Vec<(String, [i64; 3])> {
    counts
        .map(|(user, counts)| (user.to_owned(), counts))
        .into()
}

#[tokio::test(flavor = "multi_thread")]
async fn activity_is_counted_where_the_actor_sees_it() {
    let (server, team) = team().await;
    let public = team.channel(ChatChannelKind::Public, &MEMBERS).await;
    let private = team.channel(ChatChannelKind::Private, &MEMBERS).await;
    let root = team.say(&public.id, "ann", "One").await;
    team.reply(&root, "ann", "Two").await;
    let gone = team.say(&public.id, "ann", "Gone").await;
    team.delete(&gone.id, "ann").await.unwrap();
    let last = team.say(&private.id, "ann", "Three").await;
    team.say(&private.id, "owner", "Four").await;
    let mut system = team.new_entry(&public.id, "", "A build has failed");
    (system.actor, system.r#type) = (None, ChatEntryType::System.into());
    team.try_post(system).await.unwrap();
    let mut service = team.new_entry(&public.id, "", "From a machine");
    service.actor = None;
    team.try_post(service).await.unwrap();

    let all = of([("ann", [3, 1, 2]), ("owner", [1, 0, 1])]);
    assert_eq!(team.said(team.range(user("bob"))).await, all);
    let outside = of([("ann", [2, 1, 1])]);
    for who in [user("stranger"), None] {
        assert_eq!(team.said(team.range(who)).await, outside);
    }
    let unrestricted = GetChatActivityRequest {
        unrestricted: true,
        ..team.range(None)
    };
    assert_eq!(team.said(unrestricted).await, all);
    let tables = Tables::of(&team.tenant).await;
    let noted = "SELECT count(*) FROM {schema}.audit_log";
    assert_eq!(tables.count(noted).await, 2);
    let found = team.activity(team.range(user("bob"))).await.unwrap();
    assert_eq!(found[0].last_post_time, last.create_time);

    let some = GetChatActivityRequest {
        user_ids: ["owner", "nobody", "bob", "owner"]
            .map(str::to_owned)
            .into(),
        ..team.range(user("bob"))
    };
    assert_eq!(team.said(some).await, of([("owner", [1, 0, 1])]));
    let mut one = GetChatActivityRequest {
        channel_id: private.id.clone(),
        ..team.range(user("bob"))
    };
    let there = of([("ann", [1, 0, 1]), ("owner", [1, 0, 1])]);
    assert_eq!(team.said(one.clone()).await, there);
    one.actor = user("stranger");
    assert_eq!(why(team.activity(one).await), missing());
    let before = GetChatActivityRequest {
        start_time: in_days(-3),
        end_time: in_days(-1),
        ..team.range(user("bob"))
    };
    assert_eq!(team.said(before).await, []);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_of_activity_that_cannot_be_is_refused_by_the_field() {
    let (server, team) = team().await;
    let good = team.range(user("ann"));
    team.activity(good.clone()).await.unwrap();
    for (field, start_time, end_time, users) in [
        ("start_time", None, in_days(1), 0),
        ("end_time", in_days(-1), None, 0),
        ("end_time", in_days(1), in_days(1), 0),
        ("end_time", in_days(1), in_days(-1), 0),
        ("end_time", in_days(-366), in_days(1), 0),
        ("user_ids", in_days(-1), in_days(1), 51),
    ] {
        let request = GetChatActivityRequest {
            start_time,
            end_time,
            user_ids: (0..users).map(|number| format!("user-{number}")).collect(),
            ..good.clone()
        };
        assert!(
            refused(team.activity(request).await).names(field),
            "{field}"
        );
    }
    server.stop().await;
}
