//! The long forms of what the other tests show in short; `make prove` runs them.

use std::time::Duration;

use crate::chat_access;
use crate::chat_model::{self, Course};
use crate::connections::use_at_random;
use crate::durability::{kill_and_count, lose_replies};
use crate::event_flood::{Flood as Events, flood};
use crate::import::import_file;
use crate::model::{compare, meet, seed};
use crate::outage::{Flood, outlast};
use crate::redelivery::{Load, meet_many, redeliver};
use crate::sequence::{Load as Writing, write_at_once};

#[tokio::test(flavor = "multi_thread")]
async fn a_service_killed_a_hundred_times_loses_and_doubles_nothing() {
    kill_and_count(100).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_messages_whose_reply_was_lost_are_there_once() {
    lose_replies(10_000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_webhooks_told_up_to_ten_times_have_their_effect_once() {
    let load = Load {
        people: 200,
        messages: 50,
        times: 10,
        kills: 20,
    };
    redeliver(load).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_first_messages_each_of_two_hundred_people_make_one_conversation_each() {
    meet_many(200, 10).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_hundred_webhooks_a_second_for_a_thousand_tenants_outlast_an_outage() {
    let flood = Flood {
        tenants: 1_000,
        rate: 300,
        seconds: 20,
    };
    outlast(flood).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_tenants_at_random_never_open_more_than_sixty_connections() {
    use_at_random(1_000, 60).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_million_calls_at_random_do_what_the_model_says() {
    compare(1_000, 1_000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_million_steps_at_random_leave_the_counts_that_the_model_says() {
    // As many teams as keep their connections: with fifty of them, most steps open one. Each makes 2,500
    // steps, since what is compared after each of them grows with what was said.
    let (first, teams, rounds) = (seed(), 8, 50);
    for round in 0..rounds {
        let course = Course {
            first: first + round * teams,
            teams,
            times: 5,
            steps: 500,
            all_after: 10,
        };
        chat_model::compare(course).await;
        eprintln!("{} of {rounds} rounds of 20,000 steps", round + 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_comings_and_goings_are_told_within_a_second_and_nothing_is_heard_outside() {
    let slowest = chat_access::come_and_go(25).await;
    eprintln!("the slowest loss of access was told after {slowest:.0?}");
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_thousand_calls_at_once_on_few_conversations_leave_nothing_torn() {
    meet(32, 3_125).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_thousand_lines_are_imported_once() {
    let rate = import_file(100_000, 2_000).await;
    println!("{rate} messages a second");
    assert!(rate >= 1_000, "{rate} messages a second");
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_messages_by_sixty_four_writers_have_one_order_for_all() {
    let load = Writing {
        writers: 64,
        messages: 10_000,
        kills: 20,
    };
    write_at_once(load).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_million_events_are_heard_once_by_fifty_readers_that_come_and_go() {
    let load = Events {
        events: 1_000_000,
        writers: 24,
        readers: 50,
        kills: 20,
    };
    flood(load).await;
}
