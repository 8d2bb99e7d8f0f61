//! Statistics over a year of a million conversations, beside the same figures from the log alone.
//!
//! `BENCH_CONVERSATIONS` says how many there are instead.

use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};

use communication_service::pb;
use hdrhistogram::Histogram;
use prost::Message as _;
use prost::bytes::Bytes;
use prost_types::Timestamp;

use crate::callers::Callers;
use crate::postgres::{BUILD_INDEXES, DROP_INDEXES, Postgres};
use crate::report::verdict;
use crate::service::Service;
use crate::{Failure, INITIALIZE_TENANT, TENANT, bytes, service, setting};

/// The name that the arguments of a run can ask for.
pub const NAME: &str = "statistics";

const RECOMPUTE: &str = "/communication.v1.InboxService/RecomputeStatistics";
const VOLUME: &str = "/communication.v1.InboxService/GetMessageVolume";
/// The zone of all buckets.
const ZONE: &str = "Europe/Berlin";
/// How often each call is made.
const ROUNDS: usize = 200;
/// How often the log is asked: it takes its time.
const ROUNDS_OF_LOG: usize = 3;

/// Conversations of a year, by 50 agents in 8 teams on 5 accounts: each begins with a message of
/// the customer, is assigned, answered, goes on with a second message and answer, and is archived.
/// What the log tells of them is numbered by time.
const STORY: &str = "
    INSERT INTO channel_accounts (id, channel, name, is_default)
    SELECT ('00000000-0000-7000-8000-00000000000' || n)::uuid,
        (ARRAY['whatsapp', 'email', 'web', 'messenger', 'instagram'])[n], 'account ' || n, true
    FROM generate_series(1, 5) n;
    INSERT INTO contacts (id, name)
    SELECT ('00000000-0000-7000-8001-' || lpad(n::text, 12, '0'))::uuid, 'Customer ' || n
    FROM generate_series(1, {n}) n;
    INSERT INTO contact_identities (id, contact_id, channel_account_id, value)
    SELECT ('00000000-0000-7000-8002-' || lpad(n::text, 12, '0'))::uuid,
        ('00000000-0000-7000-8001-' || lpad(n::text, 12, '0'))::uuid,
        ('00000000-0000-7000-8000-00000000000' || 1 + n % 5)::uuid, n::text
    FROM generate_series(1, {n}) n;
    CREATE TEMP TABLE story AS
    SELECT n, k, at, row_number() OVER (ORDER BY at, n, k) AS id
    FROM generate_series(1, {n}) n
    CROSS JOIN LATERAL (
        SELECT now() - interval '360 days' + n * (interval '359 days' / {n}) AS begun,
            -ln(1 - (hashint8(n) & 65535) / 65536.0) * interval '20 minutes' AS first,
            -ln(1 - (hashint8(n + 1000000000) & 65535) / 65536.0) * interval '1 hour' AS next
    ) d
    CROSS JOIN LATERAL (VALUES
        (1, begun), (2, begun + interval '1 second'), (3, begun + first / 2), (4, begun + first),
        (5, begun + first + interval '10 minutes'), (6, begun + first + interval '10 minutes' + next),
        (7, begun + 2 * first + 3 * next + interval '10 minutes')
    ) s (k, at)
    WHERE k < 7 OR n % 20 > 0;
    INSERT INTO inbox_conversations (id, number, contact_identity_id, channel, thread_key, status,
        priority, subject, metadata, last_sequence, last_message_at, created_at, updated_at,
        archived_at, assignee_id, team_id, labels, last_inbound_sequence, read_sequence)
    SELECT ('00000000-0000-7000-8003-' || lpad(n::text, 12, '0'))::uuid, n,
        ('00000000-0000-7000-8002-' || lpad(n::text, 12, '0'))::uuid,
        (ARRAY['whatsapp', 'email', 'web', 'messenger', 'instagram'])[1 + n % 5], '',
        CASE WHEN n % 20 = 0 THEN 'replied' ELSE 'archived' END, 'normal', '', '{}', 4, at, at, at,
        CASE WHEN n % 20 > 0 THEN at END, 'agent-' || n % 50, 'team-' || n % 50 % 8,
        CASE WHEN n % 3 = 0 THEN ARRAY['label-' || n % 30] ELSE '{}' END, 3, 2
    FROM story WHERE k = 6;
    INSERT INTO inbox_messages (id, conversation_id, sequence, direction, type, text, status,
        actor_kind, actor_id, caller, correlation_id, metadata, created_at, updated_at)
    SELECT ('00000000-0000-7000-8004-' || lpad(id::text, 12, '0'))::uuid,
        ('00000000-0000-7000-8003-' || lpad(n::text, 12, '0'))::uuid, array_position(ARRAY[2, 4, 5, 6], k), CASE WHEN k IN (2, 5) THEN 'inbound' ELSE 'outbound' END,
        'text', 'Good morning!', CASE WHEN k IN (4, 6) THEN 'sent' END,
        CASE WHEN k IN (2, 5) THEN 'service' ELSE 'user' END,
        CASE WHEN k IN (2, 5) THEN 'bench' ELSE 'agent-' || n % 50 END, 'bench', 'bench', '{}', at, at
    FROM story WHERE k IN (2, 4, 5, 6) ORDER BY id;
    INSERT INTO conversation_changes (id, conversation_id, kind, rule, changed, actor_kind, actor_id,
        caller, correlation_id, at, old_status, status, old_priority, priority, old_assignee_id,
        assignee_id, old_team_id, team_id, old_labels, labels, was_qualified, is_qualified,
        was_unread, is_unread, was_waiting, is_waiting, episode, episode_started_at, waited_since,
        is_first_response)
    SELECT id, ('00000000-0000-7000-8003-' || lpad(n::text, 12, '0'))::uuid,
        (ARRAY['created', 'message', 'assigned', 'message', 'message', 'message', 'archived'])[k],
        '', '{}', CASE WHEN k IN (3, 4, 6, 7) THEN 'user' ELSE 'service' END,
        CASE WHEN k IN (3, 4, 6, 7) THEN 'agent-' || n % 50 ELSE 'bench' END, 'bench', 'bench', at,
        (ARRAY[NULL, 'new', 'new', 'open', 'replied', 'open', 'replied'])[k],
        (ARRAY['new', 'new', 'open', 'replied', 'open', 'replied', 'archived'])[k],
        CASE WHEN k > 1 THEN 'normal' END, 'normal',
        CASE WHEN k > 3 THEN 'agent-' || n % 50 END, CASE WHEN k > 2 THEN 'agent-' || n % 50 END,
        CASE WHEN k > 3 THEN 'team-' || n % 50 % 8 END, CASE WHEN k > 2 THEN 'team-' || n % 50 % 8 END,
        CASE WHEN k > 3 AND n % 3 = 0 THEN ARRAY['label-' || n % 30] WHEN k > 1 THEN '{}' END,
        CASE WHEN k > 2 AND n % 3 = 0 THEN ARRAY['label-' || n % 30] ELSE '{}' END, false, false,
        k > 2, k > 1, k IN (3, 4, 6), k IN (2, 3, 5), 1, first_value(at) OVER story,
        CASE k WHEN 4 THEN nth_value(at, 2) OVER story WHEN 6 THEN nth_value(at, 5) OVER story END,
        k = 4
    FROM story
    WINDOW story AS (PARTITION BY n ORDER BY k ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING)
    ORDER BY id;
    SELECT setval('events_id_seq', (SELECT max(id) FROM story));
    -- The rollups that count pretend to know it all, so that those built anew need not wait for them.
    UPDATE statistics_folds SET position = (SELECT max(id) FROM story);
    DROP TABLE story";

/// A call to measure.
struct Case {
    name: &'static str,
    path: &'static str,
    request: Bytes,
    /// The same from the log alone, as somebody would ask who has no rollups.
    log: &'static str,
}

fn cases(now: i64) -> Vec<Case> {
    // Off every bucket, so that the ends are read from the log.
    let days_ago = |days: i64| {
        Some(Timestamp {
            seconds: now - days * 86_400 - 77,
            nanos: 0,
        })
    };
    let times = |days, interval: pb::StatisticsInterval, by: pb::ResponseTimesGrouping| {
        bytes(&pb::GetResponseTimesRequest {
            tenant: TENANT.to_owned(),
            start_time: days_ago(days),
            end_time: days_ago(0),
            time_zone: ZONE.to_owned(),
            interval: interval.into(),
            group_by: by.into(),
            ..Default::default()
        })
    };
    let volume = |days, interval: pb::StatisticsInterval, by: pb::MessageVolumeGrouping| {
        bytes(&pb::GetMessageVolumeRequest {
            tenant: TENANT.to_owned(),
            start_time: days_ago(days),
            end_time: days_ago(0),
            time_zone: ZONE.to_owned(),
            interval: interval.into(),
            group_by: by.into(),
            ..Default::default()
        })
    };
    use pb::MessageVolumeGrouping as VolumeBy;
    use pb::ResponseTimesGrouping as TimesBy;
    use pb::StatisticsInterval::{Day, Hour, Month, Unspecified};
    const STATS: &str = "/communication.v1.InboxService/GetConversationStats";
    const TIMES: &str = "/communication.v1.InboxService/GetResponseTimes";
    const ACTIVITY: &str = "/communication.v1.InboxService/GetUserActivity";
    let stats = pb::GetConversationStatsRequest {
        tenant: TENANT.to_owned(),
        ..Default::default()
    };
    let activity = pb::GetUserActivityRequest {
        tenant: TENANT.to_owned(),
        start_time: days_ago(30),
        end_time: days_ago(0),
        ..Default::default()
    };
    let case = |name, path, request, log| Case {
        name,
        path,
        request,
        log,
    };
    const TIMES_LOG: &str = "SELECT date_trunc('day', at AT TIME ZONE 'Europe/Berlin'), is_first_response,
            percentile_cont(ARRAY[0.5, 0.9, 0.99]) WITHIN GROUP (ORDER BY at - waited_since)
        FROM conversation_changes WHERE waited_since IS NOT NULL AND at >= now() - interval '{days} days'
        GROUP BY 1, 2";
    const VOLUME_LOG: &str =
        "SELECT date_trunc('day', created_at AT TIME ZONE 'Europe/Berlin'), direction, count(*)
        FROM inbox_messages WHERE created_at >= now() - interval '{days} days' GROUP BY 1, 2";
    vec![
        case(
            "GetConversationStats",
            STATS,
            bytes(&stats),
            "SELECT status, channel, assignee_id, team_id, priority, count(*) FROM inbox_conversations
            GROUP BY GROUPING SETS ((), (status), (channel), (assignee_id), (team_id), (priority))",
        ),
        case("GetResponseTimes, a year as one", TIMES, times(358, Unspecified, TimesBy::Unspecified) , TIMES_LOG),
        case("GetResponseTimes, a year by month", TIMES, times(358, Month, TimesBy::Unspecified) , TIMES_LOG),
        case("GetResponseTimes, a year by day", TIMES, times(358, Day, TimesBy::Unspecified) , TIMES_LOG),
        case("GetResponseTimes, a year by agent", TIMES, times(358, Unspecified, TimesBy::Agent) , TIMES_LOG),
        case("GetResponseTimes, 30 days by day", TIMES, times(30, Day, TimesBy::Unspecified) , TIMES_LOG),
        case("GetResponseTimes, 30 days by agent", TIMES, times(30, Unspecified, TimesBy::Agent) , TIMES_LOG),
        case("GetMessageVolume, a year by month", VOLUME, volume(358, Month, VolumeBy::Unspecified), VOLUME_LOG),
        case("GetMessageVolume, a year by day and channel", VOLUME, volume(358, Day, VolumeBy::Channel), VOLUME_LOG),
        case("GetMessageVolume, 7 days by hour", VOLUME, volume(7, Hour, VolumeBy::Unspecified), VOLUME_LOG),
        case("GetMessageVolume, 30 days by actor", VOLUME, volume(30, Unspecified, VolumeBy::Actor), VOLUME_LOG),
        case(
            "GetUserActivity, 30 days of 50 users",
            ACTIVITY,
            bytes(&activity),
            "SELECT actor_id, count(*), min(at), max(at) FROM conversation_changes
            WHERE actor_kind = 'user' AND at >= now() - interval '{days} days' GROUP BY 1",
        ),
    ]
}

/// Fills a tenant, folds it, and measures.
pub async fn measure(postgres: &Postgres, folder: &Path) -> Result<(), Failure> {
    let conversations: u32 = setting("BENCH_CONVERSATIONS", 1_000_000)?;
    let token = service::token(folder).await?;
    let service = Service::start(folder, postgres.url(), &[]).await?;
    let callers = Callers::connect(&service.address, &token).await?;
    let tenant = pb::InitializeTenantRequest {
        tenant: TENANT.to_owned(),
        ..Default::default()
    };
    callers.call(INITIALIZE_TENANT, bytes(&tenant)).await?;
    let sql = "SELECT schema_name FROM directory.tenants";
    let schema: String = postgres.admin.query_one(sql, &[]).await?.get(0);
    let path = format!("SET search_path = \"{schema}\", pg_catalog");
    postgres.admin.batch_execute(&path).await?;
    let begun = Instant::now();
    let story = STORY.replace("{n}", &conversations.to_string());
    postgres.admin.batch_execute(DROP_INDEXES).await?;
    postgres.admin.batch_execute(&story).await?;
    postgres.admin.batch_execute(BUILD_INDEXES).await?;
    postgres.admin.batch_execute("ANALYZE").await?;
    eprintln!("filled after {:.0?}", begun.elapsed());

    // Whoever reads in a zone for the first time has its days counted from then on.
    let now = "SELECT extract(epoch FROM now())::bigint";
    let now: i64 = postgres.admin.query_one(now, &[]).await?.get(0);
    let asked = pb::GetMessageVolumeRequest {
        tenant: TENANT.to_owned(),
        time_zone: ZONE.to_owned(),
        ..Default::default()
    };
    callers.call(VOLUME, bytes(&asked)).await?;
    let begun = Instant::now();
    recompute(&callers).await?;
    let took = begun.elapsed().as_secs_f64();
    let events = "SELECT (SELECT count(*) FROM conversation_changes) + (SELECT count(*) FROM inbox_messages)";
    let events: i64 = postgres.admin.query_one(events, &[]).await?.get(0);
    let rows =
        "SELECT (SELECT count(*) FROM statistics_states), (SELECT count(*) FROM statistics_rollups),
        pg_total_relation_size('statistics_rollups')";
    let rows = postgres.admin.query_one(rows, &[]).await?;
    let [states, rollups, size] = [0, 1, 2].map(|column| rows.get::<_, i64>(column));
    postgres.admin.batch_execute("VACUUM ANALYZE").await?;
    println!("\n{conversations} conversations of a year, {events} changes and messages\n");
    println!("| | figure |\n|---|--:|");
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let rate = events as f64 / took;
    println!("| all folded anew | {took:.0} s, {rate:.0} changes and messages a second |");
    println!(
        "| rows of states, of rollups | {states}, {rollups}: {} MiB |",
        size >> 20
    );
    println!(
        "\n| call | p50 | p95 | bar | the answer, KiB | the log alone, p50 |\n|---|--:|--:|---|--:|--:|"
    );
    let mut asked: HashMap<String, Vec<Duration>> = HashMap::new();
    for case in cases(now) {
        let mut histogram = Histogram::<u64>::new(3)?;
        let mut size = 0;
        for round in 0..ROUNDS + 20 {
            let begun = Instant::now();
            size = callers.call(case.path, case.request.clone()).await?.len();
            if round >= 20 {
                histogram.record(u64::try_from(begun.elapsed().as_micros())?)?;
            }
        }
        let days = if case.name.contains("a year") {
            "358"
        } else {
            "30"
        };
        let log = case.log.replace("{days}", days);
        // Several calls ask the log the same.
        let mut alone = asked.remove(&log).unwrap_or_default();
        while alone.len() < ROUNDS_OF_LOG {
            let begun = Instant::now();
            postgres.admin.query(&log, &[]).await?;
            alone.push(begun.elapsed());
        }
        alone.sort_unstable();
        let at = |share| Duration::from_micros(histogram.value_at_quantile(share));
        println!(
            "| {} | {:.1?} | {:.1?} | < 20 ms {} | {} | {:.0?} |",
            case.name,
            at(0.5),
            at(0.95),
            verdict(at(0.95) < Duration::from_millis(20)),
            size / 1024,
            alone[ROUNDS_OF_LOG / 2],
        );
        asked.insert(log, alone);
    }
    service.stop().await
}

async fn recompute(callers: &Callers) -> Result<(), Failure> {
    let request = pb::RecomputeStatisticsRequest {
        tenant: TENANT.to_owned(),
    };
    loop {
        let answer = callers.call(RECOMPUTE, bytes(&request)).await?;
        let answer = pb::RecomputeStatisticsResponse::decode(answer)?;
        if answer.done {
            return Ok(());
        }
    }
}
