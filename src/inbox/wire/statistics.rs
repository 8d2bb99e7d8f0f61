//! Statistics on the wire.

use chrono::{NaiveDate, TimeDelta};
use chrono_tz::Tz;

use crate::access::Actor;
use crate::channel::Channel;
use crate::error::Error;
use crate::etag::etag;
use crate::field::{Fields, Mask, Most};
use crate::ids::ChannelAccountId;
use crate::inbox::statistics::business_hours::{BusinessHours, BusinessHoursPatch, Interval};
use crate::inbox::statistics::conversation_stats::{Counts, Group, StatsFilter};
use crate::inbox::statistics::message_volume::{self, By, Volume, VolumeQuery, Which};
use crate::inbox::statistics::range::{Asked, Span, Unit};
use crate::inbox::statistics::rebuild::Progress;
use crate::inbox::statistics::response_times::{self, ResponseTimes, ResponseTimesQuery, Slice};
use crate::inbox::statistics::sums::{Durations, Sum};
use crate::inbox::statistics::user_activity::{ActivityQuery, UserActivity};
use crate::pb;
use crate::time::to_timestamp;

use super::conversation::LABEL;
use super::message::message_type;

const ZONE: Most = Most::Characters(64);
const DATE: Most = Most::Characters(10);
const MAX_USERS: usize = 100;
const MAX_INTERVALS: usize = 100;
const MAX_HOLIDAYS: usize = 1000;

impl TryFrom<pb::GetConversationStatsRequest> for StatsFilter {
    type Error = Error;

    fn try_from(request: pb::GetConversationStatsRequest) -> Result<Self, Error> {
        let mut fields = Fields::default();
        let account = &request.channel_account_id;
        let filter = Self {
            channels: fields.choices("channels", &request.channels, Channel::from_wire),
            channel_account_id: fields.id("channel_account_id", account, ChannelAccountId),
            assignee_id: fields.name_of_somebody("assignee_id", request.assignee_id),
            team_id: fields.name_of_somebody("team_id", request.team_id),
            label: fields.text("label", request.label, LABEL),
        };
        fields.finish()?;
        Ok(filter)
    }
}

fn time_zone(fields: &mut Fields, name: String) -> Tz {
    let name = fields.text("time_zone", name, ZONE);
    if name.is_empty() {
        return Tz::UTC;
    }
    name.parse().unwrap_or_else(|_| {
        fields.refuse("time_zone", "must be the IANA name of a time zone");
        Tz::UTC
    })
}

fn unit(fields: &mut Fields, interval: i32) -> Unit {
    match fields.choice::<pb::StatisticsInterval>("interval", interval) {
        None | Some(pb::StatisticsInterval::Unspecified) => Unit::Whole,
        Some(pb::StatisticsInterval::Hour) => Unit::Hour,
        Some(pb::StatisticsInterval::Day) => Unit::Day,
        Some(pb::StatisticsInterval::Week) => Unit::Week,
        Some(pb::StatisticsInterval::Month) => Unit::Month,
    }
}

fn only_one(fields: &mut Fields, given: &[(&str, bool)]) {
    let mut given = given.iter().filter(|(_, is_given)| *is_given);
    if let Some((first, _)) = given.next() {
        for (further, _) in given {
            fields.refuse(*further, format!("cannot be given beside `{first}`"));
        }
    }
}

impl TryFrom<pb::GetResponseTimesRequest> for ResponseTimesQuery {
    type Error = Error;

    fn try_from(request: pb::GetResponseTimesRequest) -> Result<Self, Error> {
        use pb::ResponseTimesGrouping as By;
        let mut fields = Fields::default();
        let range = Asked {
            from: fields.time("start_time", request.start_time.as_ref()),
            to: fields.time("end_time", request.end_time.as_ref()),
            unit: unit(&mut fields, request.interval),
            zone: time_zone(&mut fields, request.time_zone),
        };
        let by = fields.choice::<By>("group_by", request.group_by);
        let agent = fields.name_of_somebody("agent_id", request.agent_id);
        let team = fields.name_of_somebody("team_id", request.team_id);
        let channel = fields
            .choice::<pb::Channel>("channel", request.channel)
            .and_then(Channel::from_wire);
        let account = &request.channel_account_id;
        let account = fields.id("channel_account_id", account, ChannelAccountId);
        let label = fields.text("label", request.label, LABEL);
        let label = (!label.is_empty()).then_some(label);
        let given = [
            ("agent_id", agent.is_some(), By::Agent),
            ("team_id", team.is_some(), By::Team),
            ("channel", channel.is_some(), By::Channel),
            ("channel_account_id", account.is_some(), By::ChannelAccount),
            ("label", label.is_some(), By::Label),
        ];
        only_one(
            &mut fields,
            &given.map(|(name, is_given, _)| (name, is_given)),
        );
        let filter = given.iter().find(|(_, is_given, _)| *is_given);
        if let (Some((name, _, same)), Some(by)) = (filter, by)
            && by != *same
        {
            fields.refuse("group_by", format!("must be by the same as `{name}`"));
        }
        fields.finish()?;
        let slice = match filter.map(|(_, _, same)| *same).or(by) {
            None | Some(By::Unspecified) => Slice::All,
            Some(By::Agent) => Slice::Agents(agent),
            Some(By::Team) => Slice::Teams(team),
            Some(By::Channel) => Slice::Channels(channel),
            Some(By::ChannelAccount) => Slice::Accounts(account),
            Some(By::Label) => Slice::Labels(label),
        };
        Ok(Self {
            range,
            slice,
            grouped: by.is_some(),
        })
    }
}

impl TryFrom<pb::GetMessageVolumeRequest> for VolumeQuery {
    type Error = Error;

    fn try_from(request: pb::GetMessageVolumeRequest) -> Result<Self, Error> {
        let mut fields = Fields::default();
        let range = Asked {
            from: fields.time("start_time", request.start_time.as_ref()),
            to: fields.time("end_time", request.end_time.as_ref()),
            unit: unit(&mut fields, request.interval),
            zone: time_zone(&mut fields, request.time_zone),
        };
        let by = match fields.choice::<pb::MessageVolumeGrouping>("group_by", request.group_by) {
            None | Some(pb::MessageVolumeGrouping::Unspecified) => By::Nothing,
            Some(pb::MessageVolumeGrouping::Channel) => By::Channel,
            Some(pb::MessageVolumeGrouping::ChannelAccount) => By::Account,
            Some(pb::MessageVolumeGrouping::Actor) => By::Actor,
            Some(pb::MessageVolumeGrouping::Type) => By::Type,
        };
        let channel = fields
            .choice::<pb::Channel>("channel", request.channel)
            .and_then(Channel::from_wire);
        let account = &request.channel_account_id;
        let account = fields.id("channel_account_id", account, ChannelAccountId);
        let user = fields.name_of_somebody("user_id", request.user_id);
        let kind = fields.choice::<pb::MessageType>("type", request.r#type);
        let given = [
            ("channel", channel.is_some()),
            ("channel_account_id", account.is_some()),
            ("user_id", user.is_some()),
        ];
        only_one(&mut fields, &given);
        match (by, given.iter().find(|(_, is_given)| *is_given)) {
            (By::Channel | By::Account, Some((name @ "user_id", _)))
            | (By::Actor, Some((name @ ("channel" | "channel_account_id"), _))) => {
                fields.refuse("group_by", format!("cannot be this beside `{name}`"));
            }
            _ => {}
        }
        fields.finish()?;
        let which = match (channel, account, user) {
            (Some(channel), _, _) => Which::Channel(channel),
            (_, Some(account), _) => Which::Account(account),
            (_, _, Some(user)) => Which::User(user),
            _ => Which::All,
        };
        Ok(Self {
            range,
            which,
            message_type: kind.and_then(message_type),
            by,
        })
    }
}

impl TryFrom<pb::GetUserActivityRequest> for ActivityQuery {
    type Error = Error;

    fn try_from(request: pb::GetUserActivityRequest) -> Result<Self, Error> {
        let mut fields = Fields::default();
        let range = Asked {
            from: fields.time("start_time", request.start_time.as_ref()),
            to: fields.time("end_time", request.end_time.as_ref()),
            unit: Unit::Whole,
            zone: Tz::UTC,
        };
        if request.user_ids.len() > MAX_USERS {
            let most = format!("must have at most {MAX_USERS} values");
            fields.refuse("user_ids", most);
        }
        let mut user_ids = Vec::new();
        for (index, user) in request.user_ids.into_iter().take(MAX_USERS).enumerate() {
            let path = format!("user_ids[{index}]");
            match fields.name_of_somebody(&path, user) {
                Some(user) => user_ids.push(user),
                None => fields.refuse(path, "must not be empty"),
            }
        }
        fields.finish()?;
        Ok(Self { range, user_ids })
    }
}

/// Reads the team of `GetBusinessHours`; empty for those that have no hours of their own.
pub fn team_id(request: pb::GetBusinessHoursRequest) -> Result<String, Error> {
    let mut fields = Fields::default();
    let team = fields.name_of_somebody("team_id", request.team_id);
    fields.finish()?;
    Ok(team.unwrap_or_default())
}

impl TryFrom<pb::UpdateBusinessHoursRequest> for BusinessHoursPatch {
    type Error = Error;

    fn try_from(request: pb::UpdateBusinessHoursRequest) -> Result<Self, Error> {
        let mut fields = Fields::default();
        let known = ["time_zone", "intervals", "holidays"];
        let mask = Mask::read(&mut fields, request.update_mask, &known);
        let team = fields.name_of_somebody("team_id", request.team_id);
        let mut patch = Self {
            team_id: team.unwrap_or_default(),
            etag: fields.etag(request.etag),
            time_zone: None,
            intervals: None,
            holidays: None,
        };
        if mask.touches("time_zone", request.time_zone.is_some()) {
            let zone = request.time_zone.unwrap_or_default();
            patch.time_zone = Some(time_zone(&mut fields, zone));
        }
        if mask.touches("intervals", !request.intervals.is_empty()) {
            patch.intervals = Some(intervals(&mut fields, &request.intervals));
        }
        if mask.touches("holidays", !request.holidays.is_empty()) {
            patch.holidays = Some(holidays(&mut fields, request.holidays));
        }
        fields.finish()?;
        Ok(patch)
    }
}

fn intervals(fields: &mut Fields, given: &[pb::BusinessInterval]) -> Vec<Interval> {
    if given.len() > MAX_INTERVALS {
        let most = format!("must have at most {MAX_INTERVALS} values");
        fields.refuse("intervals", most);
        return Vec::new();
    }
    let mut intervals = Vec::new();
    for (index, interval) in given.iter().enumerate() {
        let path = |field: &str| format!("intervals[{index}].{field}");
        let weekday = fields.choice::<pb::Weekday>(&path("weekday"), interval.weekday);
        if interval.weekday == 0 {
            fields.refuse(path("weekday"), "is required");
        }
        let begin = u16::try_from(interval.start_minute).ok();
        let begin = begin.filter(|begin| *begin < 1440);
        if begin.is_none() {
            fields.refuse(path("start_minute"), "must be 0 to 1439");
        }
        let end = u16::try_from(interval.end_minute).ok();
        let end = end.filter(|end| *end <= 1440 && Some(*end) > begin);
        if end.is_none() {
            fields.refuse(
                path("end_minute"),
                "must be later than `start_minute`, 1440 at most",
            );
        }
        let number = weekday.and_then(|weekday| u8::try_from(weekday as i32 - 1).ok());
        if let (Some(weekday), Some(begin), Some(end)) = (number, begin, end) {
            intervals.push(Interval(weekday, begin, end));
        }
    }
    intervals.sort_unstable();
    let overlap = intervals
        .windows(2)
        .any(|pair| pair[0].0 == pair[1].0 && pair[0].2 >= pair[1].1);
    if overlap {
        fields.refuse("intervals", "must not touch or overlap each other");
    }
    intervals
}

fn holidays(fields: &mut Fields, given: Vec<String>) -> Vec<NaiveDate> {
    if given.len() > MAX_HOLIDAYS {
        let most = format!("must have at most {MAX_HOLIDAYS} values");
        fields.refuse("holidays", most);
        return Vec::new();
    }
    let mut holidays = Vec::new();
    for (index, text) in given.into_iter().enumerate() {
        let path = format!("holidays[{index}]");
        let text = fields.text(&path, text, DATE);
        // One form only: `2026-1-1` would be taken as well.
        let date = text.parse::<NaiveDate>().ok();
        match date.filter(|date| date.format("%Y-%m-%d").to_string() == text) {
            Some(date) => holidays.push(date),
            None => fields.refuse(path, "must be a day as `2026-12-25`"),
        }
    }
    holidays.sort_unstable();
    holidays.dedup();
    holidays
}

impl From<Counts> for pb::ConversationCounts {
    fn from(counts: Counts) -> Self {
        Self {
            total: counts.total,
            active: counts.active,
            unassigned: counts.unassigned,
            unread: counts.unread,
            waiting: counts.waiting,
            snoozed: counts.snoozed,
            qualified: counts.qualified,
        }
    }
}

impl FromIterator<(Group, Counts)> for pb::GetConversationStatsResponse {
    fn from_iter<T: IntoIterator<Item = (Group, Counts)>>(groups: T) -> Self {
        let mut answer = Self::default();
        for (group, counts) in groups {
            let counts = Some(counts.into());
            match group {
                Group::All => answer.counts = counts,
                Group::Status(status) => answer.by_status.push(pb::StatusCounts {
                    status: pb::ConversationStatus::from(status).into(),
                    counts,
                }),
                Group::Channel(channel) => answer.by_channel.push(pb::ChannelCounts {
                    channel: pb::Channel::from(channel).into(),
                    counts,
                }),
                Group::Account(id) => answer.by_channel_account.push(pb::ChannelAccountCounts {
                    channel_account_id: id.into(),
                    counts,
                }),
                Group::Assignee(assignee_id) => answer.by_assignee.push(pb::AssigneeCounts {
                    assignee_id,
                    counts,
                }),
                Group::Team(team_id) => {
                    answer.by_team.push(pb::TeamCounts { team_id, counts });
                }
                Group::Priority(priority) => answer.by_priority.push(pb::PriorityCounts {
                    priority: pb::Priority::from(priority).into(),
                    counts,
                }),
                Group::Label(label) => answer.by_label.push(pb::LabelCounts { label, counts }),
            }
        }
        answer
    }
}

fn duration(milliseconds: i64) -> prost_types::Duration {
    let delta = TimeDelta::milliseconds(milliseconds);
    prost_types::Duration {
        seconds: delta.num_seconds(),
        nanos: delta.subsec_nanos(),
    }
}

/// Writes a sum of durations; none of none.
fn summary(sum: &Sum) -> Option<pb::DurationSummary> {
    let quantile = |share| sum.histogram.quantile(share).map(duration);
    Some(pb::DurationSummary {
        mean: Some(duration(sum.total.checked_div(sum.count)?)),
        p50: quantile(0.5),
        p90: quantile(0.9),
        p99: quantile(0.99),
        longest: Some(duration(sum.longest)),
    })
}

impl From<Durations> for pb::DurationStatistics {
    fn from(durations: Durations) -> Self {
        Self {
            count: durations.wall.count,
            wall: summary(&durations.wall),
            business: summary(&durations.business),
        }
    }
}

/// Writes the response times of a bucket and a group.
pub fn response_times(
    bucket: Span,
    group: response_times::Group,
    times: ResponseTimes,
) -> pb::ResponseTimes {
    use pb::response_times::Group as Wire;
    use response_times::Group;
    let group = match group {
        Group::All => None,
        Group::Agent(id) => Some(Wire::AgentId(id)),
        Group::Team(id) => Some(Wire::TeamId(id)),
        Group::Channel(channel) => Some(Wire::Channel(pb::Channel::from(channel).into())),
        Group::Account(id) => Some(Wire::ChannelAccountId(id)),
        Group::Label(label) => Some(Wire::Label(label)),
    };
    pb::ResponseTimes {
        start_time: Some(to_timestamp(bucket.from)),
        end_time: Some(to_timestamp(bucket.to)),
        group,
        first_response: Some(times.first.into()),
        next_response: Some(times.next.into()),
        resolution: Some(times.resolution.into()),
        reopenings: times.reopenings,
    }
}

/// Writes the messages of a bucket and a group.
pub fn volume(bucket: Span, group: message_volume::Group, volume: Volume) -> pb::MessageVolume {
    use message_volume::Group;
    use pb::message_volume::Group as Wire;
    let group = match group {
        Group::All => None,
        Group::Channel(channel) => Some(Wire::Channel(pb::Channel::from(channel).into())),
        Group::Account(id) => Some(Wire::ChannelAccountId(id)),
        Group::Actor(kind, id) => Actor::of_kind(&kind, id).map(|actor| Wire::Actor(actor.into())),
        Group::Type(kind) => Some(Wire::Type(pb::MessageType::from(kind).into())),
    };
    pb::MessageVolume {
        start_time: Some(to_timestamp(bucket.from)),
        end_time: Some(to_timestamp(bucket.to)),
        group,
        inbound_count: volume.inbound,
        outbound_count: volume.outbound,
        note_count: volume.notes,
    }
}

impl From<(String, UserActivity)> for pb::UserActivity {
    fn from((user_id, activity): (String, UserActivity)) -> Self {
        let times = activity.times;
        Self {
            user_id,
            sent_count: activity.messages.outbound,
            note_count: activity.messages.notes,
            answered_count: times.first.wall.count + times.next.wall.count,
            closed_count: activity.closed,
            assigned_count: activity.assigned,
            first_activity_time: activity.first_at.map(to_timestamp),
            last_activity_time: activity.last_at.map(to_timestamp),
            first_response: Some(times.first.into()),
            next_response: Some(times.next.into()),
            resolution: Some(times.resolution.into()),
        }
    }
}

impl From<BusinessHours> for pb::BusinessHours {
    fn from(business: BusinessHours) -> Self {
        let hours = business.hours;
        let interval = |Interval(weekday, begin, end)| pb::BusinessInterval {
            weekday: i32::from(weekday) + 1,
            start_minute: i32::from(begin),
            end_minute: i32::from(end),
        };
        Self {
            team_id: hours.team_id,
            time_zone: hours.time_zone.name().to_owned(),
            intervals: hours.intervals.into_iter().map(interval).collect(),
            holidays: hours.holidays.iter().map(ToString::to_string).collect(),
            etag: etag(business.version),
            update_time: business.updated_at.map(to_timestamp),
            recomputing: business.is_recomputing,
        }
    }
}

impl From<Progress> for pb::RecomputeStatisticsResponse {
    fn from(progress: Progress) -> Self {
        Self {
            done: progress.done,
            agreed: progress.done && progress.differences == 0,
            difference_count: progress.differences,
            start_time: Some(to_timestamp(progress.started_at)),
            end_time: progress.finished_at.map(to_timestamp),
        }
    }
}
