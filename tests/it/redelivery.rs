//! Webhooks that come several times, in any order, while the service is killed: each item has its
//! effect once.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use communication_service::pb::DeleteMessageRequest;
use communication_service::pb::inbox_service_client::InboxServiceClient;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::harness::{
    Folder, Service, Tables, TestServer, Whatsapp, connect, durable, eventually, within,
};

const POSTERS: usize = 8;

/// How much is delivered.
pub struct Load {
    /// So many people.
    pub people: usize,
    /// So many messages of each.
    pub messages: usize,
    /// Each of them so many times at most.
    pub times: usize,
    /// And the service is killed so often meanwhile.
    pub kills: usize,
}

/// Puts numbers into an order that is the same each time and looks like none.
fn scatter(number: usize) -> usize {
    number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 17
}

/// Posts a webhook until somebody says that it was taken.
async fn insist(account: &Whatsapp, services: &mut watch::Receiver<SocketAddr>, body: &[u8]) {
    loop {
        let address = *services.borrow_and_update();
        match account.post_to(address, body).await {
            Some(200) => return,
            Some(503) => tokio::time::sleep(Duration::from_millis(20)).await,
            Some(status) => panic!("refused with {status}"),
            None => {
                let next = tokio::time::timeout(Duration::from_secs(20), services.changed());
                next.await.expect("another service").unwrap();
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_message_is_there_once_however_often_it_comes_and_whoever_dies() {
    let load = Load {
        people: 20,
        messages: 15,
        times: 4,
        kills: 3,
    };
    redeliver(load).await;
}

/// Delivers messages several times, in no order, and counts them in the end.
pub async fn redeliver(load: Load) {
    let Load {
        people,
        messages,
        times,
        kills,
    } = load;
    let folder = Folder::new();
    let database = durable(&folder).await;
    let mut service = Service::start(&folder, database.url()).await;
    let mut account = Whatsapp::new(service.tenant("acme").await);
    account.connect_by(&service.channel).await;

    let mut deliveries = Vec::new();
    for person in 0..people {
        for message in 0..messages {
            let (id, says) = (format!("{person}.{message}"), format!("{person}-{message}"));
            let body = account.text_of(person, &id, &says);
            for time in 0..=scatter(person * messages + message) % times {
                let place = scatter(person + 1_000 * message + 1_000_000 * time);
                deliveries.push((place, body.clone()));
            }
        }
    }
    deliveries.sort();
    let total = deliveries.len();
    assert!(total > people * messages * times / 3, "{total}");

    let (announce, services) = watch::channel(service.http);
    let (posted, mut progress) = watch::channel(0_usize);
    let mut posters = JoinSet::new();
    for poster in 0..POSTERS {
        let (account, mut services) = (account.clone(), services.clone());
        let posted = posted.clone();
        let own: Vec<_> = deliveries
            .iter()
            .skip(poster)
            .step_by(POSTERS)
            .map(|(_, body)| body.clone())
            .collect();
        posters.spawn(async move {
            for body in own {
                insist(&account, &mut services, body.as_bytes()).await;
                posted.send_modify(|posted| *posted += 1);
            }
        });
    }
    let database_admin = connect(database.url()).await;
    for kill in 1..=kills {
        let enough = total * kill / (kills + 1);
        progress.wait_for(|posted| *posted >= enough).await.unwrap();
        service.kill().await;
        if kill == kills {
            // As if the time of the dead one's leases had passed.
            let later = "UPDATE directory.deliveries SET due_at = directory.now()
                WHERE due_at IS NOT NULL";
            database_admin.batch_execute(later).await.unwrap();
        }
        service = Service::start(&folder, database.url()).await;
        announce.send(service.http).unwrap();
    }
    posters.join_all().await;
    let waiting = "SELECT count(*) FROM directory.deliveries WHERE due_at IS NOT NULL";
    let mut left = i64::MAX;
    // However many are left, they become fewer.
    while left > 0 {
        let before = left;
        within(Duration::from_secs(45), "more is applied", async || {
            let waiting = database_admin.query_one(waiting, &[]).await.unwrap();
            left = waiting.get(0);
            left < before
        })
        .await;
    }

    account.tenant.inbox = InboxServiceClient::new(service.channel.clone());
    let conversations = account.conversations().await;
    assert_eq!(conversations.len(), people);
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for conversation in &conversations {
        let stored = account.tenant.messages(conversation).await;
        let sequences: Vec<_> = stored.iter().map(|message| message.sequence).collect();
        let dense: Vec<_> = (1..).take(messages).collect();
        assert_eq!(sequences, dense);
        for message in stored {
            let id = message.text.split(' ').next().unwrap().to_owned();
            *seen.entry(id).or_default() += 1;
        }
    }
    assert_eq!(seen.len(), people * messages);
    assert!(seen.values().all(|times| *times == 1), "{seen:?}");
    let counts = format!(
        "SELECT (SELECT count(*) FROM {0}.contacts),
            (SELECT count(*) FROM {0}.events WHERE kind = 'message.created'),
            (SELECT count(*) FROM directory.quarantine)",
        account.tenant.tenant.schema_name
    );
    let row = database_admin.query_one(&counts, &[]).await.unwrap();
    let counts: (i64, i64, i64) = (row.get(0), row.get(1), row.get(2));
    let expected = i64::try_from(people * messages).unwrap();
    assert_eq!(counts, (i64::try_from(people).unwrap(), expected, 0));
    eventually("the service still answers", async || {
        account.conversations().await.len() == people
    })
    .await;
    service.kill().await;
    database.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn first_messages_of_many_at_two_nodes_make_one_conversation_each() {
    meet_many(20, 10).await;
}

/// Lets so many people send so many first messages each at the same moment, to two nodes in turn.
/// What is deleted meanwhile does not come back when it is told again.
pub async fn meet_many(people: usize, each: usize) {
    let nodes = [TestServer::start().await, TestServer::start().await];
    let account = Whatsapp::connected(&nodes[0]).await;
    let webhook = |person: usize, message: usize| {
        account.text_of(person, &format!("{person}.{message}"), "Hello")
    };
    for person in 0..people {
        let mut posts = JoinSet::new();
        for message in 0..each {
            let (account, body) = (account.clone(), webhook(person, message));
            let http = nodes[message % nodes.len()].http;
            posts.spawn(async move { account.post_to(http, body.as_bytes()).await });
        }
        for status in posts.join_all().await {
            assert_eq!(status, Some(200));
        }
    }
    let tables = Tables::of(&account.tenant).await;
    let counts = async |what: &str| {
        let query = format!("SELECT count(*) FROM {{schema}}.{what}");
        usize::try_from(tables.count(&query).await).unwrap()
    };
    within(Duration::from_secs(60), "all are there", async || {
        counts("inbox_messages").await == people * each
    })
    .await;
    let applied = format!(
        "SELECT count(*) FROM directory.deliveries
        WHERE correlation_id = '{}' AND due_at IS NOT NULL",
        account.number
    );
    let all_applied = async || tables.count(&applied).await == 0;
    eventually("all are applied", all_applied).await;
    assert_eq!(counts("contacts").await, people);
    assert_eq!(counts("inbox_conversations").await, people);

    let conversations = account.conversations().await;
    let deleted = account.tenant.messages(&conversations[0]).await.remove(0);
    let deletion = DeleteMessageRequest {
        tenant: account.tenant.slug(),
        message_id: deleted.id.clone(),
        redact: true,
        ..Default::default()
    };
    let mut inbox = account.tenant.inbox.clone();
    inbox.delete_message(deletion).await.unwrap();
    for person in 0..people {
        for message in 0..each {
            let body = webhook(person, message);
            let http = nodes[message % nodes.len()].http;
            assert_eq!(account.post_to(http, body.as_bytes()).await, Some(200));
        }
    }
    eventually("all are applied again", all_applied).await;
    assert_eq!(counts("inbox_messages").await, people * each);
    assert_eq!(counts("contacts").await, people);
    let left = account.tenant.messages(&conversations[0]).await;
    assert_eq!(left.len(), each - 1);
    assert!(left.iter().all(|message| message.id != deleted.id));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_that_was_not_ended_stays_and_one_that_repeats_it_does_not() {
    let server = TestServer::start().await;
    let account = Whatsapp::connected(&server).await;
    account.post_sample(&server, "02_text.json").await;
    let tables = Tables::of(&account.tenant).await;
    let count = async |which: &str| {
        let query = format!(
            "SELECT count(*) FROM directory.deliveries
            WHERE correlation_id = '{}' AND {which}",
            account.number
        );
        tables.count(&query).await
    };
    eventually("it is done", async || count("due_at IS NULL").await == 1).await;
    // As if its node had ended before it could say so.
    let again = format!(
        "UPDATE directory.deliveries SET due_at = directory.now() WHERE correlation_id = '{}'",
        account.number
    );
    tables.admin.batch_execute(&again).await.unwrap();
    eventually("it is done again", async || {
        count("due_at IS NULL AND attempts = 2").await == 1
    })
    .await;
    account.post_sample(&server, "02_text.json").await;
    eventually("the other is done, too", async || {
        count("due_at IS NOT NULL").await == 0
    })
    .await;
    assert_eq!(count("attempts = 2").await, 1);
    assert_eq!(count("true").await, 1);
    let conversations = account.conversations().await;
    assert_eq!(account.tenant.messages(&conversations[0]).await.len(), 1);
}
