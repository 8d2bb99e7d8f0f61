//! Statistics are exact: while they are read beside the log, after they were folded, and when many
//! write and fold at once.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use communication_service::pb::response_times::Group as ResponseGroup;
use communication_service::pb::*;
use prost_types::{FieldMask, Timestamp};
use tonic::Code;

use crate::harness::{Tables, TestServer, TestTenant, eventually, refusal, user};

/// A tenant whose calls happen when the test says.
struct Story {
    tenant: TestTenant,
    tables: Tables,
    begun: DateTime<Utc>,
}

impl Story {
    async fn begin(server: &TestServer) -> Self {
        let tenant = server.tenant().await;
        let tables = Tables::of(&tenant).await;
        let now = "SELECT directory.now()";
        let row = tables.admin.query_one(now, &[]).await.unwrap();
        let begun: std::time::SystemTime = row.get(0);
        Self {
            tenant,
            tables,
            begun: begun.into(),
        }
    }

    /// Says when all that has happened since the last time was.
    async fn at(&self, time: &str) {
        let columns = [
            ("conversation_changes", "at"),
            ("conversation_changes", "waited_since"),
            ("conversation_changes", "episode_started_at"),
            ("inbox_messages", "created_at"),
            ("inbox_conversations", "created_at"),
            ("inbox_conversations", "waiting_since"),
            ("inbox_conversations", "episode_started_at"),
        ];
        let schema = &self.tables.schema;
        for (table, column) in columns {
            let begun = self.begun.to_rfc3339();
            let update = format!(
                "UPDATE {schema}.{table} SET {column} = '{time}' WHERE {column} >= '{begun}'"
            );
            self.tables.admin.batch_execute(&update).await.unwrap();
        }
    }
}

fn time(text: &str) -> Option<Timestamp> {
    let time: DateTime<Utc> = text.parse().unwrap();
    Some(Timestamp {
        seconds: time.timestamp(),
        nanos: i32::try_from(time.timestamp_subsec_nanos()).unwrap(),
    })
}

async fn answer(tenant: &TestTenant, conversation: &Conversation, by: &str) -> Message {
    let mut request = tenant.new_message(conversation, "Hello");
    request.actor = user(by);
    tenant.send(request).await
}

async fn note(tenant: &TestTenant, conversation: &Conversation, by: &str) -> Message {
    let mut request = tenant.new_message(conversation, "Hm");
    request.actor = user(by);
    request.direction = MessageDirection::Internal.into();
    tenant.send(request).await
}

async fn assign(tenant: &TestTenant, conversation: &Conversation, to: &str, team: &str) {
    let request = AssignConversationRequest {
        tenant: tenant.slug(),
        actor: user("boss"),
        conversation_id: conversation.id.clone(),
        assignee_id: to.to_owned(),
        team_id: team.to_owned(),
        ..Default::default()
    };
    let mut inbox = tenant.inbox.clone();
    inbox.assign_conversation(request).await.unwrap();
}

async fn archive(tenant: &TestTenant, conversation: &Conversation, by: &str) {
    let request = ArchiveConversationRequest {
        tenant: tenant.slug(),
        actor: user(by),
        conversation_id: conversation.id.clone(),
        ..Default::default()
    };
    let mut inbox = tenant.inbox.clone();
    inbox.archive_conversation(request).await.unwrap();
}

async fn label(tenant: &TestTenant, conversation: &Conversation, labels: &[&str]) {
    let request = UpdateConversationRequest {
        tenant: tenant.slug(),
        conversation_id: conversation.id.clone(),
        labels: labels.iter().map(|&label| label.to_owned()).collect(),
        update_mask: Some(FieldMask {
            paths: vec!["labels".to_owned()],
        }),
        ..Default::default()
    };
    let mut inbox = tenant.inbox.clone();
    inbox.update_conversation(request).await.unwrap();
}

async fn stats(
    tenant: &TestTenant,
    request: GetConversationStatsRequest,
) -> GetConversationStatsResponse {
    let request = GetConversationStatsRequest {
        tenant: tenant.slug(),
        ..request
    };
    let mut inbox = tenant.inbox.clone();
    inbox
        .get_conversation_stats(request)
        .await
        .unwrap()
        .into_inner()
}

async fn times(tenant: &TestTenant, request: GetResponseTimesRequest) -> Vec<ResponseTimes> {
    let request = GetResponseTimesRequest {
        tenant: tenant.slug(),
        ..request
    };
    let mut inbox = tenant.inbox.clone();
    let answer = inbox.get_response_times(request).await.unwrap();
    answer.into_inner().response_times
}

async fn volumes(tenant: &TestTenant, request: GetMessageVolumeRequest) -> Vec<MessageVolume> {
    let request = GetMessageVolumeRequest {
        tenant: tenant.slug(),
        ..request
    };
    let mut inbox = tenant.inbox.clone();
    let answer = inbox.get_message_volume(request).await.unwrap();
    answer.into_inner().volumes
}

async fn activities(tenant: &TestTenant, request: GetUserActivityRequest) -> Vec<UserActivity> {
    let request = GetUserActivityRequest {
        tenant: tenant.slug(),
        ..request
    };
    let mut inbox = tenant.inbox.clone();
    let answer = inbox.get_user_activity(request).await.unwrap();
    answer.into_inner().activities
}

/// Two days around the night in which Berlin's clock goes back, in which:
/// - on Saturday, 10:00 UTC, Ada writes; agent one answers at 10:10, and again at 10:40 to what she
///   wrote at 10:30; two notes between; archived by two at 11:00, reopened by Ada on Sunday at
///   0:30 (UTC; still the night of Sunday there), answered by two at 1:30;
/// - on Sunday at 22:59:59.5 (the last second of that day there) Bob writes, and agent one answers
///   at 23:00:01, on Monday there.
async fn tell(story: &Story) -> (Conversation, Conversation) {
    let tenant = &story.tenant;
    let mut request = tenant.new_conversation();
    request.first_message = "It does not work".to_owned();
    let ada = tenant.create(request).await;
    story.at("2026-10-24T10:00:00Z").await;
    assign(tenant, &ada, "one", "support").await;
    label(tenant, &ada, &["vip", "router"]).await;
    story.at("2026-10-24T10:05:00Z").await;
    answer(tenant, &ada, "one").await;
    story.at("2026-10-24T10:10:00Z").await;
    note(tenant, &ada, "one").await;
    note(tenant, &ada, "two").await;
    story.at("2026-10-24T10:20:00Z").await;
    tenant.receive(&ada, "Still not").await;
    story.at("2026-10-24T10:30:00Z").await;
    answer(tenant, &ada, "one").await;
    // Nobody waits for this one.
    answer(tenant, &ada, "one").await;
    story.at("2026-10-24T10:40:00Z").await;
    archive(tenant, &ada, "two").await;
    story.at("2026-10-24T11:00:00Z").await;
    tenant.receive(&ada, "Again!").await;
    story.at("2026-10-25T00:30:00Z").await;
    answer(tenant, &ada, "two").await;
    story.at("2026-10-25T01:30:00Z").await;
    let mut request = tenant.new_conversation();
    request.channel = Channel::Email.into();
    request.first_message = "Hi".to_owned();
    let bob = tenant.create(request).await;
    story.at("2026-10-25T22:59:59.5Z").await;
    answer(tenant, &bob, "one").await;
    story.at("2026-10-25T23:00:01Z").await;
    (ada, bob)
}

/// The mean in milliseconds, and how many.
fn mean(statistics: &Option<DurationStatistics>) -> (i64, i64) {
    let statistics = statistics.as_ref().unwrap();
    let Some(wall) = &statistics.wall else {
        return (0, statistics.count);
    };
    let mean = wall.mean.as_ref().unwrap();
    (
        mean.seconds * 1000 + i64::from(mean.nanos) / 1_000_000,
        statistics.count,
    )
}

const MINUTE: i64 = 60_000;

/// First answers, further answers, resolutions and reopenings.
type Figures = (i64, i64, i64, i64);

async fn check_the_story(tenant: &TestTenant) {
    let days = GetResponseTimesRequest {
        start_time: time("2026-10-23T22:00:00Z"),
        end_time: time("2026-10-26T23:00:00Z"),
        time_zone: "Europe/Berlin".to_owned(),
        interval: StatisticsInterval::Day.into(),
        ..Default::default()
    };
    let by_day = times(tenant, days.clone()).await;
    assert_eq!(by_day.len(), 3);
    let [saturday, sunday, monday] = by_day.try_into().unwrap();
    assert_eq!(sunday.start_time, time("2026-10-24T22:00:00Z"));
    assert_eq!(sunday.end_time, time("2026-10-25T23:00:00Z"));
    assert_eq!(mean(&saturday.first_response), (10 * MINUTE, 1));
    assert_eq!(mean(&saturday.next_response), (10 * MINUTE, 1));
    assert_eq!(mean(&saturday.resolution), (60 * MINUTE, 1));
    assert_eq!(saturday.reopenings, 0);
    assert_eq!(mean(&sunday.first_response), (60 * MINUTE, 1));
    assert_eq!(mean(&sunday.next_response), (0, 0));
    assert_eq!(mean(&sunday.resolution), (0, 0));
    assert_eq!(sunday.reopenings, 1);
    assert_eq!(mean(&monday.first_response), (1500, 1));
    assert_eq!(monday.reopenings, 0);

    // The edges are exact to the moment: one end is in the range, the other is not.
    let narrow = |from: &str, to: &str| GetResponseTimesRequest {
        start_time: time(from),
        end_time: time(to),
        ..Default::default()
    };
    for (from, to, found) in [
        ("2026-10-24T10:10:00Z", "2026-10-24T10:40:00Z", (1, 0)),
        (
            "2026-10-24T10:10:00.001Z",
            "2026-10-24T10:40:00.001Z",
            (0, 1),
        ),
        ("2026-10-24T09:17:00Z", "2026-10-25T23:00:01Z", (2, 1)),
        ("2026-10-24T09:17:00Z", "2026-10-25T23:00:01.001Z", (3, 1)),
    ] {
        let all = times(tenant, narrow(from, to)).await;
        assert_eq!(all.len(), 1);
        let counts = (
            mean(&all[0].first_response).1,
            mean(&all[0].next_response).1,
        );
        assert_eq!(counts, found, "{from} {to}");
    }

    let whole = GetResponseTimesRequest {
        interval: 0,
        ..days
    };
    let grouped = async |by: ResponseTimesGrouping| -> BTreeMap<String, Figures> {
        let request = GetResponseTimesRequest {
            group_by: by.into(),
            ..whole.clone()
        };
        let groups = times(tenant, request).await.into_iter();
        groups
            .map(|times| {
                let group = match times.group.unwrap() {
                    ResponseGroup::AgentId(id)
                    | ResponseGroup::TeamId(id)
                    | ResponseGroup::ChannelAccountId(id) => id,
                    ResponseGroup::Label(label) => label,
                    ResponseGroup::Channel(channel) => {
                        Channel::try_from(channel).unwrap().as_str_name().to_owned()
                    }
                };
                let counts = [
                    &times.first_response,
                    &times.next_response,
                    &times.resolution,
                ];
                let [first, next, resolution] = counts.map(|of| mean(of).1);
                (group, (first, next, resolution, times.reopenings))
            })
            .collect()
    };
    let of = |groups: &[(&str, Figures)]| -> BTreeMap<String, _> {
        let groups = groups.iter();
        groups
            .map(|(name, counts)| ((*name).to_owned(), *counts))
            .collect()
    };
    let agents = grouped(ResponseTimesGrouping::Agent).await;
    assert_eq!(agents, of(&[("one", (2, 1, 1, 1)), ("two", (1, 0, 0, 0))]));
    let teams = grouped(ResponseTimesGrouping::Team).await;
    assert_eq!(teams, of(&[("", (1, 0, 0, 0)), ("support", (2, 1, 1, 1))]));
    let labels = grouped(ResponseTimesGrouping::Label).await;
    assert_eq!(
        labels,
        of(&[("router", (2, 1, 1, 1)), ("vip", (2, 1, 1, 1))])
    );
    let channels = grouped(ResponseTimesGrouping::Channel).await;
    let expected = [
        ("CHANNEL_WHATSAPP", (2, 1, 1, 1)),
        ("CHANNEL_EMAIL", (1, 0, 0, 0)),
    ];
    assert_eq!(channels, of(&expected));
    assert_eq!(
        grouped(ResponseTimesGrouping::ChannelAccount).await.len(),
        2
    );
    let filters = [
        GetResponseTimesRequest {
            agent_id: "one".to_owned(),
            ..whole.clone()
        },
        GetResponseTimesRequest {
            team_id: "support".to_owned(),
            ..whole.clone()
        },
        GetResponseTimesRequest {
            label: "vip".to_owned(),
            ..whole.clone()
        },
        GetResponseTimesRequest {
            channel: Channel::Whatsapp.into(),
            ..whole.clone()
        },
    ];
    for request in filters {
        let found = times(tenant, request.clone()).await;
        assert_eq!(
            (found.len(), mean(&found[0].first_response).1),
            (1, 2),
            "{request:?}"
        );
    }

    let hours = GetMessageVolumeRequest {
        start_time: time("2026-10-24T10:15:00Z"),
        end_time: time("2026-10-24T12:00:00Z"),
        interval: StatisticsInterval::Hour.into(),
        ..Default::default()
    };
    let counts = |volume: &MessageVolume| {
        (
            volume.inbound_count,
            volume.outbound_count,
            volume.note_count,
        )
    };
    let by_hour = volumes(tenant, hours.clone()).await;
    assert_eq!(
        by_hour.iter().map(counts).collect::<Vec<_>>(),
        [(1, 2, 2), (0, 0, 0)]
    );
    let all = GetMessageVolumeRequest {
        start_time: time("2026-10-24T00:00:00Z"),
        end_time: time("2026-10-26T00:00:00Z"),
        ..Default::default()
    };
    let total = volumes(tenant, all.clone()).await;
    assert_eq!(total.iter().map(counts).collect::<Vec<_>>(), [(4, 5, 2)]);
    let grouped = async |by: MessageVolumeGrouping| {
        let request = GetMessageVolumeRequest {
            group_by: by.into(),
            ..all.clone()
        };
        let mut groups: Vec<_> = volumes(tenant, request).await.iter().map(counts).collect();
        groups.sort_unstable();
        groups
    };
    assert_eq!(
        grouped(MessageVolumeGrouping::Channel).await,
        [(1, 1, 0), (3, 4, 2)]
    );
    assert_eq!(
        grouped(MessageVolumeGrouping::ChannelAccount).await,
        [(1, 1, 0), (3, 4, 2)]
    );
    assert_eq!(grouped(MessageVolumeGrouping::Type).await, [(4, 5, 2)]);
    let by_actor = [(0, 1, 1), (0, 4, 1), (4, 0, 0)];
    assert_eq!(grouped(MessageVolumeGrouping::Actor).await, by_actor);
    let of_one = GetMessageVolumeRequest {
        user_id: "one".to_owned(),
        ..all.clone()
    };
    assert_eq!(counts(&volumes(tenant, of_one).await[0]), (0, 4, 1));
    let of_mail = GetMessageVolumeRequest {
        channel: Channel::Email.into(),
        ..all.clone()
    };
    assert_eq!(counts(&volumes(tenant, of_mail).await[0]), (1, 1, 0));
    let images = GetMessageVolumeRequest {
        r#type: MessageType::Image.into(),
        ..all
    };
    assert_eq!(counts(&volumes(tenant, images).await[0]), (0, 0, 0));

    let request = GetUserActivityRequest {
        start_time: time("2026-10-24T00:00:00Z"),
        end_time: time("2026-10-26T00:00:00Z"),
        user_ids: Vec::new(),
        ..Default::default()
    };
    let all = activities(tenant, request.clone()).await;
    let names: Vec<_> = all
        .iter()
        .map(|activity| activity.user_id.as_str())
        .collect();
    assert_eq!(names, ["boss", "one", "two"]);
    let figures = |activity: &UserActivity| {
        [
            activity.sent_count,
            activity.note_count,
            activity.answered_count,
            activity.closed_count,
            activity.assigned_count,
        ]
    };
    assert_eq!(figures(&all[0]), [0, 0, 0, 0, 0]);
    assert_eq!(all[0].first_activity_time, time("2026-10-24T10:05:00Z"));
    assert_eq!(figures(&all[1]), [4, 1, 3, 0, 1]);
    assert_eq!(all[1].first_activity_time, time("2026-10-24T10:10:00Z"));
    assert_eq!(all[1].last_activity_time, time("2026-10-25T23:00:01Z"));
    assert_eq!(mean(&all[1].first_response).1, 2);
    assert_eq!(mean(&all[1].resolution), (60 * MINUTE, 1));
    assert_eq!(figures(&all[2]), [1, 1, 1, 1, 0]);
    let some = GetUserActivityRequest {
        user_ids: vec!["two".to_owned(), "nobody".to_owned()],
        ..request
    };
    let some = activities(tenant, some).await;
    assert_eq!(some.len(), 2);
    assert_eq!(
        (some[0].user_id.as_str(), &some[0].first_activity_time),
        ("nobody", &None)
    );
    assert_eq!(some[1], all[2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_story_is_told_in_exact_numbers_before_and_after_it_is_folded() {
    let server = TestServer::start().await;
    let story = Story::begin(&server).await;
    tell(&story).await;
    let folded = "SELECT count(*) FROM {schema}.statistics_rollups";
    assert_eq!(story.tables.count(folded).await, 0);
    check_the_story(&story.tenant).await;
    let done = story.tenant.recompute().await.unwrap();
    assert!(done.start_time.is_some() && done.end_time.is_some());
    assert!(story.tables.count(folded).await > 0);
    check_the_story(&story.tenant).await;
    let again = story.tenant.recompute().await.unwrap();
    assert!(again.agreed, "{again:?}");
    check_the_story(&story.tenant).await;
}

/// What the conversations of a tenant come to, read from the conversations themselves.
async fn counted(tables: &Tables, condition: &str) -> [i64; 7] {
    let count = |further: &str| {
        format!(
            "SELECT count(*) FROM {{schema}}.inbox_conversations c WHERE ({condition}) AND {further}"
        )
    };
    let active = "c.archived_at IS NULL";
    let mut counts = [0; 7];
    for (index, further) in [
        "true".to_owned(),
        active.to_owned(),
        format!("{active} AND c.assignee_id IS NULL"),
        format!("{active} AND c.last_inbound_sequence > c.read_sequence"),
        "c.waiting_since IS NOT NULL".to_owned(),
        "c.snoozed_until IS NOT NULL".to_owned(),
        "c.qualified_at IS NOT NULL".to_owned(),
    ]
    .iter()
    .enumerate()
    {
        counts[index] = tables.count(&count(further)).await;
    }
    counts
}

fn figures(counts: Option<&ConversationCounts>) -> [i64; 7] {
    let counts = counts.copied().unwrap_or_default();
    [
        counts.total,
        counts.active,
        counts.unassigned,
        counts.unread,
        counts.waiting,
        counts.snoozed,
        counts.qualified,
    ]
}

/// Compares every figure and filter of the statistics with the conversations themselves.
async fn check_stats(tenant: &TestTenant, tables: &Tables) {
    let all = stats(tenant, GetConversationStatsRequest::default()).await;
    assert_eq!(figures(all.counts.as_ref()), counted(tables, "true").await);
    for group in &all.by_status {
        let status = ConversationStatus::try_from(group.status).unwrap();
        let word = status
            .as_str_name()
            .trim_start_matches("CONVERSATION_STATUS_");
        let condition = format!("c.status = '{}'", word.to_lowercase());
        assert_eq!(
            figures(group.counts.as_ref()),
            counted(tables, &condition).await
        );
    }
    for group in &all.by_priority {
        let priority = Priority::try_from(group.priority).unwrap();
        let word = priority.as_str_name().trim_start_matches("PRIORITY_");
        let condition = format!("c.priority = '{}'", word.to_lowercase());
        assert_eq!(
            figures(group.counts.as_ref()),
            counted(tables, &condition).await
        );
    }
    let mut sums = [0; 6];
    for group in &all.by_channel {
        let channel = Channel::try_from(group.channel).unwrap();
        let word = channel
            .as_str_name()
            .trim_start_matches("CHANNEL_")
            .to_lowercase();
        let expected = counted(tables, &format!("c.channel = '{word}'")).await;
        assert_eq!(figures(group.counts.as_ref()), expected);
        sums[0] += group.counts.unwrap().total;
        let filter = GetConversationStatsRequest {
            channels: vec![group.channel],
            ..Default::default()
        };
        assert_eq!(
            figures(stats(tenant, filter).await.counts.as_ref()),
            expected
        );
    }
    for group in &all.by_channel_account {
        let filter = GetConversationStatsRequest {
            channel_account_id: group.channel_account_id.clone(),
            ..Default::default()
        };
        assert_eq!(stats(tenant, filter).await.counts, group.counts);
        sums[1] += group.counts.unwrap().total;
    }
    for group in &all.by_assignee {
        let condition = format!("coalesce(c.assignee_id, '') = '{}'", group.assignee_id);
        let expected = counted(tables, &condition).await;
        assert_eq!(figures(group.counts.as_ref()), expected);
        sums[2] += expected[0];
        if !group.assignee_id.is_empty() {
            let filter = GetConversationStatsRequest {
                assignee_id: group.assignee_id.clone(),
                ..Default::default()
            };
            assert_eq!(
                figures(stats(tenant, filter).await.counts.as_ref()),
                expected
            );
        }
    }
    for group in &all.by_team {
        let condition = format!("coalesce(c.team_id, '') = '{}'", group.team_id);
        let expected = counted(tables, &condition).await;
        assert_eq!(figures(group.counts.as_ref()), expected);
        sums[3] += expected[0];
        if !group.team_id.is_empty() {
            let filter = GetConversationStatsRequest {
                team_id: group.team_id.clone(),
                ..Default::default()
            };
            assert_eq!(
                figures(stats(tenant, filter).await.counts.as_ref()),
                expected
            );
        }
    }
    for group in &all.by_label {
        let condition = format!("'{}' = ANY (c.labels)", group.label);
        let expected = counted(tables, &condition).await;
        assert_eq!(figures(group.counts.as_ref()), expected);
        let filter = GetConversationStatsRequest {
            label: group.label.clone(),
            ..Default::default()
        };
        let alone = stats(tenant, filter).await;
        assert_eq!(figures(alone.counts.as_ref()), expected);
        assert_eq!(alone.by_label, std::slice::from_ref(group));
    }
    sums[4] = all
        .by_status
        .iter()
        .map(|group| group.counts.unwrap().total)
        .sum();
    sums[5] = all
        .by_priority
        .iter()
        .map(|group| group.counts.unwrap().total)
        .sum();
    assert_eq!(sums, [all.counts.unwrap().total; 6]);
}

/// One step of somebody's work: many kinds of calls, in an order that looks like chance.
async fn work(tenant: &TestTenant, step: u64) {
    let mut draw = step.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
    let mut pick = |below: u64| {
        draw = draw.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (draw >> 33) % below
    };
    let channels = [Channel::Whatsapp, Channel::Email, Channel::Web];
    let mut request = tenant.new_conversation();
    request.channel = channels[usize::try_from(pick(3)).unwrap()].into();
    request.priority = i32::try_from(pick(5)).unwrap();
    request.contact_identifier = format!("customer-{}", pick(40));
    if pick(2) == 0 {
        request.first_message = "Hello".to_owned();
    }
    let conversation = tenant.create(request).await;
    let mut inbox = tenant.inbox.clone();
    let (slug, id) = (tenant.slug(), conversation.id.clone());
    for _ in 0..3 {
        let who = format!("user-{}", pick(4));
        match pick(9) {
            0 | 1 => drop(tenant.receive(&conversation, "And?").await),
            2 => {
                let mut request = tenant.new_message(&conversation, "Yes");
                request.actor = user(&who);
                // Refused where it is archived.
                drop(inbox.create_message(request).await);
            }
            3 => drop(note(tenant, &conversation, &who).await),
            4 => {
                let request = AssignConversationRequest {
                    tenant: slug.clone(),
                    conversation_id: id.clone(),
                    assignee_id: if pick(3) == 0 { String::new() } else { who },
                    team_id: ["", "sales", "support"][usize::try_from(pick(3)).unwrap()].to_owned(),
                    ..Default::default()
                };
                drop(inbox.assign_conversation(request).await);
            }
            5 => {
                let labels = [&["vip"][..], &["vip", "router"], &[]];
                label(
                    tenant,
                    &conversation,
                    labels[usize::try_from(pick(3)).unwrap()],
                )
                .await;
            }
            6 => archive(tenant, &conversation, &who).await,
            7 => {
                let request = QualifyConversationRequest {
                    tenant: slug.clone(),
                    conversation_id: id.clone(),
                    ..Default::default()
                };
                inbox.qualify_conversation(request).await.unwrap();
            }
            _ => {
                let request = MarkConversationReadRequest {
                    tenant: slug.clone(),
                    actor: user(&who),
                    conversation_id: id.clone(),
                    sequence: 0,
                };
                inbox.mark_conversation_read(request).await.unwrap();
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn conversation_stats_are_those_of_the_conversations_in_every_dimension() {
    let server = TestServer::start().await;
    let tenant = server.tenant().await;
    let tables = Tables::of(&tenant).await;
    let none = stats(&tenant, GetConversationStatsRequest::default()).await;
    assert_eq!(figures(none.counts.as_ref()), [0; 7]);
    for step in 0..60 {
        work(&tenant, step).await;
    }
    check_stats(&tenant, &tables).await;
    assert!(tenant.recompute().await.unwrap().agreed);
    check_stats(&tenant, &tables).await;
    // Rollup and log together, and an own write at once.
    for step in 60..70 {
        work(&tenant, step).await;
    }
    check_stats(&tenant, &tables).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_who_write_and_fold_on_two_servers_lose_nothing_and_count_nothing_twice() {
    let (server, other) = tokio::join!(TestServer::start(), TestServer::start());
    let tenant = server.tenant().await;
    let tables = Tables::of(&tenant).await;
    let there = TestTenant::new(&other, tenant.tenant.clone());
    let mut running = tokio::task::JoinSet::new();
    for writer in 0..8_u64 {
        let tenant = if writer % 2 == 0 {
            tenant.clone()
        } else {
            there.clone()
        };
        running.spawn(async move {
            for step in 0..20 {
                work(&tenant, writer * 1000 + step).await;
            }
        });
    }
    let mut folding = tokio::task::JoinSet::new();
    for tenant in [tenant.clone(), there.clone(), tenant.clone()] {
        folding.spawn(async move {
            loop {
                let done = tenant.recompute().await.unwrap();
                assert!(done.agreed, "{done:?}");
            }
        });
    }
    while let Some(done) = running.join_next().await {
        done.unwrap();
    }
    assert!(
        folding.try_join_next().is_none(),
        "a recomputation has failed"
    );
    folding.shutdown().await;
    check_stats(&tenant, &tables).await;
    let done = there.recompute().await.unwrap();
    assert!(done.agreed, "{done:?}");
    check_stats(&there, &tables).await;
    let all = volumes(&tenant, GetMessageVolumeRequest::default()).await;
    let counts = [
        all[0].inbound_count,
        all[0].outbound_count,
        all[0].note_count,
    ];
    for (count, direction) in counts.into_iter().zip(["inbound", "outbound", "internal"]) {
        let messages = format!(
            "SELECT count(*) FROM {{schema}}.inbox_messages WHERE direction = '{direction}'"
        );
        assert_eq!(count, tables.count(&messages).await, "{direction}");
    }
    let all = times(&tenant, GetResponseTimesRequest::default()).await;
    let responses =
        "SELECT count(*) FROM {schema}.conversation_changes WHERE waited_since IS NOT NULL";
    let found = mean(&all[0].first_response).1 + mean(&all[0].next_response).1;
    assert_eq!(found, tables.count(responses).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_count_is_found_and_mended() {
    let server = TestServer::start().await;
    let story = Story::begin(&server).await;
    tell(&story).await;
    // From now on the days of Berlin are counted, too.
    check_the_story(&story.tenant).await;
    story.tenant.recompute().await.unwrap();
    let schema = &story.tables.schema;
    let damages = [
        "UPDATE {schema}.statistics_states SET conversations = conversations + 1 WHERE label = ''",
        "DELETE FROM {schema}.statistics_rollups WHERE facet = 'account' AND grain = 1",
        "UPDATE {schema}.statistics_rollups SET wall = NULL WHERE facet = 'actor' AND value = 'user/one' AND wall IS NOT NULL",
        "INSERT INTO {schema}.statistics_rollups SELECT generation, facet, grain, bucket, 'user/x',
            counts FROM {schema}.statistics_rollups
            WHERE facet = 'actor' AND value = 'user/one' AND grain = 0",
        "UPDATE {schema}.statistics_rollups SET counts = NULL WHERE facet = 'account' AND grain = 4",
    ];
    for damage in damages {
        let damage = damage.replace("{schema}", schema);
        let damaged = story.tables.admin.execute(&damage, &[]).await.unwrap();
        assert!(damaged > 0, "{damage}");
        let done = story.tenant.recompute().await.unwrap();
        assert!(!done.agreed, "{damage}");
        assert_eq!(
            u64::try_from(done.difference_count).unwrap(),
            damaged,
            "{damage}"
        );
        check_the_story(&story.tenant).await;
        assert!(story.tenant.recompute().await.unwrap().agreed);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_folded_past_a_writer_who_has_drawn_a_number_and_not_ended() {
    let server = TestServer::start().await;
    let tenant = server.tenant().await;
    let (tables, writer) = (Tables::of(&tenant).await, Tables::of(&tenant).await);
    tenant.conversation().await;
    let schema = &tables.schema;
    let begin = format!(
        "BEGIN; SELECT pg_advisory_xact_lock_shared(1129270605, {}); SELECT nextval('{schema}.events_id_seq')",
        tables.number
    );
    writer.admin.batch_execute(&begin).await.unwrap();
    tenant.conversation().await;
    let running = tokio::spawn({
        let tenant = tenant.clone();
        async move { tenant.recompute().await }
    });
    // Reads go on, and see what is there.
    for _ in 0..20 {
        let all = stats(&tenant, GetConversationStatsRequest::default()).await;
        assert_eq!(all.counts.unwrap().total, 2);
    }
    let position = "SELECT max(position) FROM {schema}.statistics_folds";
    assert_eq!(tables.count(position).await, 0);
    assert!(!running.is_finished());
    writer.admin.batch_execute("COMMIT").await.unwrap();
    assert!(running.await.unwrap().unwrap().agreed);
    assert!(tables.count(position).await > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn much_that_is_written_is_folded_by_itself() {
    let server = TestServer::start().await;
    let tenant = server.tenant().await;
    let tables = Tables::of(&tenant).await;
    let conversation = tenant.conversation().await;
    for _ in 0..300 {
        note(&tenant, &conversation, "one").await;
    }
    eventually("the log is folded", async || {
        tables
            .count("SELECT position FROM {schema}.statistics_folds")
            .await
            >= 256
    })
    .await;
    let all = volumes(&tenant, GetMessageVolumeRequest::default()).await;
    assert_eq!(all[0].note_count, 300);
}

fn office(
    tenant: &TestTenant,
    zone: &str,
    days: std::ops::Range<i32>,
) -> UpdateBusinessHoursRequest {
    let interval = |weekday, start_minute, end_minute| BusinessInterval {
        weekday,
        start_minute,
        end_minute,
    };
    UpdateBusinessHoursRequest {
        tenant: tenant.slug(),
        time_zone: Some(zone.to_owned()),
        intervals: days
            .flat_map(|day| [interval(day, 540, 780), interval(day, 840, 1080)])
            .collect(),
        ..Default::default()
    }
}

/// The business hours of a team, once all is counted by them.
async fn settled(tenant: &TestTenant, team_id: &str) -> BusinessHours {
    let mut found = BusinessHours::default();
    eventually("durations are counted by the new hours", async || {
        let request = GetBusinessHoursRequest {
            tenant: tenant.slug(),
            team_id: team_id.to_owned(),
        };
        let answer = tenant.inbox.clone().get_business_hours(request).await;
        found = answer.unwrap().into_inner().business_hours.unwrap();
        !found.recomputing
    })
    .await;
    found
}

async fn business_means(tenant: &TestTenant) -> [i64; 2] {
    let request = GetResponseTimesRequest {
        start_time: time("2026-10-24T00:00:00Z"),
        end_time: time("2026-10-26T00:00:00Z"),
        ..Default::default()
    };
    let all = times(tenant, request).await;
    [&all[0].first_response, &all[0].resolution].map(|of| {
        let business = of.as_ref().unwrap().business.as_ref().unwrap();
        business.mean.as_ref().unwrap().seconds
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn durations_of_the_past_are_counted_by_the_business_hours_of_today() {
    let server = TestServer::start().await;
    let story = Story::begin(&server).await;
    let tenant = &story.tenant;
    tell(&story).await;
    let unset = settled(tenant, "").await;
    assert_eq!(
        (unset.time_zone.as_str(), unset.intervals.len()),
        ("UTC", 0)
    );
    assert_eq!((unset.etag.as_str(), &unset.update_time), ("\"0\"", &None));
    // 10 minutes, an hour and 1.5 seconds; an hour.
    assert_eq!(business_means(tenant).await, [(600 + 3600 + 1) / 3, 3600]);

    // Berlin is two hours ahead on Saturday, when it is open until 13:00 and from 14:00 on.
    let mut inbox = tenant.inbox.clone();
    let mut request = office(tenant, "Europe/Berlin", 1..7);
    request.actor = user("boss");
    let changed = inbox.update_business_hours(request.clone()).await.unwrap();
    let changed = changed.into_inner().business_hours.unwrap();
    assert_eq!(
        (changed.etag.as_str(), changed.intervals.len()),
        ("\"1\"", 12)
    );
    assert!(changed.update_time.is_some());
    let current = settled(tenant, "").await;
    assert_eq!(current.intervals, changed.intervals);
    assert_eq!(business_means(tenant).await, [600 / 3, 3600]);
    let events = "SELECT count(*) FROM {schema}.events WHERE kind = 'business_hours.updated'";
    assert_eq!(story.tables.count(events).await, 1);

    // The same again is no change; a stale etag none at all.
    inbox.update_business_hours(request.clone()).await.unwrap();
    assert_eq!(story.tables.count(events).await, 1);
    request.etag = "\"7\"".to_owned();
    let refused = refusal(inbox.update_business_hours(request.clone()).await);
    assert_eq!(
        (refused.0, refused.1.as_str()),
        (Code::Aborted, "ETAG_MISMATCH")
    );

    // A holiday, and a team of its own hours: support never works on Saturdays.
    let holiday = UpdateBusinessHoursRequest {
        tenant: tenant.slug(),
        etag: current.etag,
        holidays: vec!["2026-12-25".to_owned(), "2026-12-24".to_owned()],
        ..Default::default()
    };
    let changed = inbox.update_business_hours(holiday).await.unwrap();
    let changed = changed.into_inner().business_hours.unwrap();
    assert_eq!(changed.holidays, ["2026-12-24", "2026-12-25"]);
    assert_eq!(changed.intervals, current.intervals);
    let mut team = office(tenant, "Europe/Berlin", 1..6);
    team.team_id = "support".to_owned();
    inbox.update_business_hours(team).await.unwrap();
    settled(tenant, "support").await;
    assert_eq!(business_means(tenant).await, [0, 0]);
    let done = story.tenant.recompute().await.unwrap();
    assert!(done.agreed, "{done:?}");
    check_the_story(tenant).await;

    // Cleared, all hours count again; for support its own still do.
    let clear = UpdateBusinessHoursRequest {
        tenant: tenant.slug(),
        update_mask: Some(FieldMask {
            paths: vec!["*".to_owned()],
        }),
        ..Default::default()
    };
    let cleared = inbox.update_business_hours(clear).await.unwrap();
    let cleared = cleared.into_inner().business_hours.unwrap();
    assert_eq!(
        (cleared.time_zone.as_str(), cleared.holidays.len()),
        ("UTC", 0)
    );
    settled(tenant, "").await;
    assert_eq!(business_means(tenant).await, [0, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_days_of_a_zone_that_is_asked_for_are_counted_by_themselves() {
    let server = TestServer::start().await;
    let story = Story::begin(&server).await;
    tell(&story).await;
    let by_day = async |zone: &str| {
        let range = GetMessageVolumeRequest {
            start_time: time("2026-10-20T00:00:00Z"),
            end_time: time("2026-10-28T00:00:00Z"),
            time_zone: zone.to_owned(),
            interval: StatisticsInterval::Day.into(),
            ..Default::default()
        };
        let hours = GetResponseTimesRequest {
            start_time: range.start_time,
            end_time: range.end_time,
            time_zone: zone.to_owned(),
            interval: StatisticsInterval::Hour.into(),
            ..Default::default()
        };
        let tenant = &story.tenant;
        (volumes(tenant, range).await, times(tenant, hours).await)
    };
    let zones = [
        "America/St_Johns",
        "Asia/Kathmandu",
        "Asia/Kolkata",
        "Asia/Tokyo",
        "Europe/Berlin",
        "Pacific/Apia",
        "Pacific/Chatham",
        "UTC",
        "Australia/Lord_Howe",
        "America/Lima",
    ];
    let mut before = Vec::new();
    for zone in zones {
        before.push(by_day(zone).await);
        let messages = before.last().unwrap().0.iter();
        let messages: i64 = messages
            .map(|day| day.inbound_count + day.outbound_count)
            .sum();
        assert_eq!(messages, 9, "{zone}");
    }
    let known = "SELECT count(*) FROM {schema}.statistics_time_zones";
    assert_eq!(story.tables.count(known).await, 8);
    eventually("their days are counted", async || {
        let folded = "SELECT count(*) FROM {schema}.statistics_folds WHERE is_current
            AND time_zones[1] = 'UTC' AND cardinality(time_zones) = 9";
        story.tables.count(folded).await == 1
    })
    .await;
    // A day and a month of each, of everything.
    let grains = "SELECT count(DISTINCT grain) FROM {schema}.statistics_rollups
        JOIN {schema}.statistics_folds USING (generation) WHERE is_current AND facet = 'all'";
    assert_eq!(story.tables.count(grains).await, 2 + 9 * 2);
    for (zone, before) in zones.into_iter().zip(before) {
        assert_eq!(by_day(zone).await, before, "{zone}");
    }
    // Who has not asked for a month makes room.
    let old = format!(
        "UPDATE {}.statistics_time_zones SET asked_at = asked_at - interval '31 days'
         WHERE time_zone LIKE 'Pacific/%'",
        story.tables.schema
    );
    story.tables.admin.batch_execute(&old).await.unwrap();
    by_day("America/Lima").await;
    let lima = "SELECT count(*) FROM {schema}.statistics_folds WHERE is_current
        AND 'America/Lima' = ANY (time_zones) AND cardinality(time_zones) = 8";
    eventually("Lima has taken their place", async || {
        story.tables.count(lima).await == 1
    })
    .await;
    check_the_story(&story.tenant).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn business_hours_that_cannot_be_are_refused_by_field() {
    let server = TestServer::start().await;
    let tenant = server.tenant().await;
    let interval = |weekday, start_minute, end_minute| BusinessInterval {
        weekday,
        start_minute,
        end_minute,
    };
    let with = |intervals: Vec<BusinessInterval>| UpdateBusinessHoursRequest {
        tenant: tenant.slug(),
        intervals,
        ..Default::default()
    };
    let on = |holidays: &[&str]| UpdateBusinessHoursRequest {
        tenant: tenant.slug(),
        holidays: holidays.iter().map(|&day| day.to_owned()).collect(),
        ..Default::default()
    };
    let mut zone = with(Vec::new());
    zone.time_zone = Some("Europe/Bielefeld".to_owned());
    let cases = [
        (with(vec![interval(0, 0, 1)]), "intervals[0].weekday"),
        (with(vec![interval(1, -1, 1)]), "intervals[0].start_minute"),
        (
            with(vec![interval(1, 1440, 1441)]),
            "intervals[0].start_minute",
        ),
        (with(vec![interval(1, 60, 60)]), "intervals[0].end_minute"),
        (with(vec![interval(1, 60, 1441)]), "intervals[0].end_minute"),
        (
            with(vec![interval(1, 60, 90), interval(1, 80, 100)]),
            "intervals",
        ),
        (
            with(vec![interval(1, 60, 90), interval(1, 90, 100)]),
            "intervals",
        ),
        (with(vec![interval(1, 60, 90); 101]), "intervals"),
        (on(&["2026-2-1"]), "holidays[0]"),
        (on(&["2026-02-01", "2026-02-30"]), "holidays[1]"),
        (on(&["today"]), "holidays[0]"),
        (zone, "time_zone"),
    ];
    for (request, field) in cases {
        let refused = refusal(tenant.inbox.clone().update_business_hours(request).await);
        assert_eq!(refused.0, Code::InvalidArgument);
        assert!(
            refused.2.iter().any(|named| named == field),
            "{field}: {refused:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ranges_and_filters_that_cannot_be_are_refused_by_field() {
    let server = TestServer::start().await;
    let tenant = server.tenant().await;
    let year = GetResponseTimesRequest {
        tenant: tenant.slug(),
        start_time: time("2026-01-01T00:00:00Z"),
        end_time: time("2027-01-01T00:00:00Z"),
        ..Default::default()
    };
    let cases = [
        (
            GetResponseTimesRequest {
                interval: StatisticsInterval::Hour.into(),
                ..year.clone()
            },
            "interval",
        ),
        (
            GetResponseTimesRequest {
                end_time: year.start_time,
                ..year.clone()
            },
            "start_time",
        ),
        (
            GetResponseTimesRequest {
                time_zone: "CEST".to_owned(),
                ..year.clone()
            },
            "time_zone",
        ),
        (
            GetResponseTimesRequest {
                agent_id: "one".to_owned(),
                team_id: "support".to_owned(),
                ..year.clone()
            },
            "team_id",
        ),
        (
            GetResponseTimesRequest {
                agent_id: "one".to_owned(),
                group_by: ResponseTimesGrouping::Team.into(),
                ..year
            },
            "group_by",
        ),
    ];
    for (request, field) in cases {
        let refused = refusal(tenant.inbox.clone().get_response_times(request).await);
        assert_eq!(
            (refused.0, refused.2),
            (Code::InvalidArgument, vec![field.to_owned()])
        );
    }
    let volume = GetMessageVolumeRequest {
        tenant: tenant.slug(),
        user_id: "one".to_owned(),
        group_by: MessageVolumeGrouping::Channel.into(),
        ..Default::default()
    };
    let refused = refusal(tenant.inbox.clone().get_message_volume(volume).await);
    assert_eq!(refused.2, ["group_by"]);
    let many = GetUserActivityRequest {
        tenant: tenant.slug(),
        user_ids: vec!["one".to_owned(); 101],
        ..Default::default()
    };
    let refused = refusal(tenant.inbox.clone().get_user_activity(many).await);
    assert_eq!(refused.2, ["user_ids"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_that_is_left_out_is_the_last_thirty_days() {
    let server = TestServer::start().await;
    let tenant = server.tenant().await;
    let conversation = tenant.conversation().await;
    tenant.receive(&conversation, "Hello").await;
    let all = volumes(&tenant, GetMessageVolumeRequest::default()).await;
    assert_eq!((all.len(), all[0].inbound_count), (1, 1));
    let length = all[0].end_time.unwrap().seconds - all[0].start_time.unwrap().seconds;
    assert_eq!(length, TimeDelta::days(30).num_seconds());
}
