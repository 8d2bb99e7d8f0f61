//! Messages are found by their words, in any language, and nothing else is.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use communication_service::pb::{
    Actor, Channel, Conversation, CreateConversationRequest, DeleteMessageRequest,
    ListConversationsRequest, MessageDirection, MessageMatch, MessageType, SearchMessagesRequest,
    UpdateConversationRequest, actor,
};
use prost_types::Timestamp;
use tonic::Code;
use uuid::Uuid;

use crate::harness::{Tables, TestServer, TestTenant, eventually, refusal, tenant};

fn query(tenant: &TestTenant, query: &str) -> SearchMessagesRequest {
    SearchMessagesRequest {
        tenant: tenant.slug(),
        query: query.to_owned(),
        ..Default::default()
    }
}

/// All pages of a search.
async fn all(tenant: &TestTenant, mut request: SearchMessagesRequest) -> Vec<MessageMatch> {
    let mut matches = Vec::new();
    loop {
        let page = tenant.inbox.clone().search_messages(request.clone()).await;
        let page = page.unwrap().into_inner();
        matches.extend(page.matches);
        if page.next_page_token.is_empty() {
            return matches;
        }
        request.page_token = page.next_page_token;
    }
}

fn texts(matches: &[MessageMatch]) -> Vec<String> {
    let text = |found: &MessageMatch| found.message.clone().unwrap().text;
    matches.iter().map(text).collect()
}

async fn found(tenant: &TestTenant, words: &str) -> Vec<String> {
    texts(&all(tenant, query(tenant, words)).await)
}

/// A snippet as a person would write it down.
fn marked(found: &MessageMatch) -> String {
    let parts = found.snippet.iter().map(|part| match part.is_match {
        true => format!("[{}]", part.text),
        false => part.text.clone(),
    });
    parts.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_word_is_found_in_any_language_however_it_is_written() {
    let (_server, tenant) = tenant().await;
    let conversation = tenant.conversation().await;
    let samples: &[(&str, &[&str], &[&str], &str)] = &[
        (
            "Schöne Grüße aus der Hauptstraße",
            &["grusse", "GRÜSSE", "hauptSTRASSE"],
            &["haupt", "grub"],
            "Schöne [Grüße] aus der Hauptstraße",
        ),
        (
            "İSTANBUL'da ISPARTA",
            &["istanbul", "ısparta", "İstanbul'da"],
            &["stanbul"],
            "[İSTANBUL]'da ISPARTA",
        ),
        (
            "Здравствуйте, заказ ещё не пришёл",
            &["ЗАКАЗ", "еще", "пришел"],
            &["каз"],
            "Здравствуйте, [заказ] ещё не пришёл",
        ),
        (
            "Ο Οδυσσεύς γύρισε",
            &["ΟΔΥΣΣΕΥΣ", "οδυσσευς", "γυρισε"],
            &["οδυσ"],
            "Ο [Οδυσσεύς] γύρισε",
        ),
        (
            "我想申请退款，谢谢",
            &["退款", "申请退款", "谢", "我想"],
            &["款申", "退谢", "款谢"],
            "我想申请[退款]，谢谢",
        ),
        (
            "注文したパソコンが届きません",
            &["パソコン", "ﾊﾟｿｺﾝ", "届きません"],
            &["コンパ"],
            "注文した[パソコン]が届きません",
        ),
        (
            "ผมต้องการคืนสินค้า",
            &["สินค้า", "คืนสินค้า"],
            &["ค้าสิน"],
            "ผมต้องการคืน[สินค้า]",
        ),
        (
            "배송이언제되나요 감사합니다",
            &["배송", "감사합니다"],
            &["송배"],
            "[배송]이언제되나요 감사합니다",
        ),
        (
            "أهلاً وسهلاً بكم في المَتجر",
            &["وسهلا", "المتجر", "اهلا"],
            &["سهل"],
            "أهلاً [وسهلاً] بكم في المَتجر",
        ),
        (
            "शिपिंग में कितना समय लगेगा",
            &["कितना", "समय"],
            &["कित"],
            "शिपिंग में [कितना] समय लगेगा",
        ),
        (
            "Danke 👍🏽 für alles 👩‍💻",
            &["👍", "👍🏿", "👩‍💻", "💻"],
            &["👎"],
            "Danke [👍🏽] für alles 👩‍💻",
        ),
        (
            "Ruf +49 (170) 123-4567 an, 註文#A-77",
            &["+491701234567", "+49 170 1234567", "a-77", "文#a"],
            &["1234568"],
            "Ruf +[49 (170) 123-4567] an, 註文#A-77",
        ),
        (
            "Write to Jane.Doe@example.com or https://shop.example.org/o/9?x=1",
            &["jane.doe@EXAMPLE.com", "example.org", "shop", "doe"],
            &["jane.example"],
            "Write to [Jane.Doe@example.com] or https://shop.example.org/o/9?x=1",
        ),
        (
            "ｆｕｌｌ ｗｉｄｔｈ ﬁne",
            &["full", "fine"],
            &["ful"],
            "[ｆｕｌｌ] ｗｉｄｔｈ ﬁne",
        ),
    ];
    for (text, ..) in samples {
        tenant.receive(&conversation, text).await;
    }
    for (text, hits, misses, shown) in samples {
        for (number, hit) in hits.iter().enumerate() {
            let matches = all(&tenant, query(&tenant, hit)).await;
            assert_eq!(texts(&matches), [*text], "{hit}");
            if number == 0 {
                assert_eq!(marked(&matches[0]), *shown);
            }
        }
        for miss in *misses {
            assert_eq!(found(&tenant, miss).await, Vec::<String>::new(), "{miss}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn words_phrases_beginnings_and_exclusions_mean_what_the_proto_says() {
    let (_server, tenant) = tenant().await;
    let conversation = tenant.conversation().await;
    let stored = [
        "the order is late",
        "late is the order",
        "orders are never late",
        "the order arrived",
        "we refund the late order, which is very sad for everybody here",
    ];
    for text in stored {
        tenant.reply(&conversation, text).await;
    }
    let cases: &[(&str, &[usize])] = &[
        // Next to each other in this order, then near, the newest first; then the others.
        ("late order", &[4, 1, 0]),
        ("order late", &[4, 1, 0]),
        ("order is", &[0, 4, 1]),
        ("\"order is late\"", &[0]),
        ("“order is late", &[0]),
        ("late -refund", &[2, 1, 0]),
        ("late -\"the order\"", &[4, 2]),
        ("ord* late", &[4, 2, 1, 0]),
        ("or*", &[4, 3, 2, 1, 0]),
        ("o*", &[]),
        ("order -ord*", &[]),
        ("late -ar* -refund", &[1, 0]),
        ("LATE,order;is", &[]),
        ("late - refund", &[4]),
    ];
    for (words, expected) in cases {
        let expected: Vec<_> = expected.iter().map(|index| stored[*index]).collect();
        assert_eq!(found(&tenant, words).await, expected, "{words}");
    }
    for nothing in ["", "-late", "?!", "\"\"", "* - *", &"a ".repeat(33)] {
        let request = query(&tenant, nothing);
        let refused = tenant.inbox.clone().search_messages(request).await;
        let (code, _, fields) = refusal(refused);
        assert_eq!(
            (code, fields),
            (Code::InvalidArgument, vec!["query".to_owned()])
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_filter_leaves_what_it_says() {
    let (server, tenant) = tenant().await;
    let talk = async |channel: Channel, who: &str| {
        let request = CreateConversationRequest {
            channel: channel.into(),
            contact_identifier: who.to_owned(),
            ..tenant.new_conversation()
        };
        tenant.create(request).await
    };
    let [mail, chat] = [
        talk(Channel::Email, "a@example.com").await,
        talk(Channel::Whatsapp, "+1").await,
    ];
    let said = async |conversation: &Conversation, direction: MessageDirection, user: &str| {
        let mut request = tenant.new_message(conversation, &format!("word by {user}"));
        request.direction = direction.into();
        request.actor = Some(user_actor(user));
        tenant.send(request).await
    };
    said(&mail, MessageDirection::Inbound, "ann's \\").await;
    let second = said(&mail, MessageDirection::Internal, "bob").await;
    said(&chat, MessageDirection::Outbound, "cy").await;
    let mut place = tenant.new_message(&chat, "word by map");
    place.r#type = MessageType::Location.into();
    place.location = Some(Default::default());
    tenant.send(place).await;
    let case = async |change: &dyn Fn(&mut SearchMessagesRequest), expected: &[&str]| {
        let mut request = query(&tenant, "word");
        change(&mut request);
        let mut found: Vec<_> = texts(&all(&tenant, request).await);
        found.reverse();
        let expected: Vec<_> = expected
            .iter()
            .map(|who| format!("word by {who}"))
            .collect();
        assert_eq!(found, expected);
    };
    case(&|_| {}, &["ann's \\", "bob", "cy", "map"]).await;
    case(
        &|r| r.conversation_id.clone_from(&mail.id),
        &["ann's \\", "bob"],
    )
    .await;
    case(
        &|r| r.contact_id.clone_from(&chat.contact_id),
        &["cy", "map"],
    )
    .await;
    case(&|r| r.contact_id = Uuid::now_v7().to_string(), &[]).await;
    case(
        &|r| r.channel_account_id.clone_from(&mail.channel_account_id),
        &["ann's \\", "bob"],
    )
    .await;
    case(
        &|r| r.channels = vec![Channel::Whatsapp.into()],
        &["cy", "map"],
    )
    .await;
    case(
        &|r| r.channels = vec![Channel::Whatsapp.into(), Channel::Email.into()],
        &["ann's \\", "bob", "cy", "map"],
    )
    .await;
    case(
        &|r| r.directions = vec![MessageDirection::Internal.into()],
        &["bob"],
    )
    .await;
    case(&|r| r.types = vec![MessageType::Location.into()], &["map"]).await;
    case(&|r| r.author = Some(user_actor("ann's \\")), &["ann's \\"]).await;
    case(&|r| r.author = Some(user_actor("b' | 'ob")), &[]).await;
    let at = second.create_time;
    case(&|r| r.start_time = at, &["bob", "cy", "map"]).await;
    case(&|r| r.end_time = at, &["ann's \\"]).await;
    case(
        &|r| {
            r.start_time = at;
            r.end_time = at;
        },
        &[],
    )
    .await;
    case(
        &|r| {
            r.start_time = at;
            r.channels = vec![Channel::Email.into()];
        },
        &["bob"],
    )
    .await;

    // Another tenant sees nothing of it, and a deleted message is gone.
    let other = server.tenant().await;
    assert!(found(&other, "word").await.is_empty());
    let tables = Tables::of(&tenant).await;
    let delete = format!(
        "UPDATE {}.inbox_messages SET deleted_at = now() WHERE id = '{}'",
        tables.schema, second.id
    );
    tables.admin.batch_execute(&delete).await.unwrap();
    case(&|_| {}, &["ann's \\", "cy", "map"]).await;
}

fn user_actor(id: &str) -> Actor {
    Actor {
        kind: Some(actor::Kind::UserId(id.to_owned())),
    }
}

/// Stores many messages beside each other, by SQL; `text` and `words` are expressions of `n`.
async fn load(tenant: &TestTenant, count: i64, text: &str, words: &str) -> Tables {
    load_at(tenant, count, text, words, "directory.now()").await
}

/// The same at times that are an expression of `n`.
async fn load_at(tenant: &TestTenant, count: i64, text: &str, words: &str, stored: &str) -> Tables {
    let conversation = tenant.conversation().await;
    let tables = Tables::of(tenant).await;
    let sql = format!(
        "SET search_path = {};
         INSERT INTO inbox_messages (id, conversation_id, sequence, direction, type, text,
             actor_kind, actor_id, caller, correlation_id, metadata, created_at, updated_at)
         SELECT (lpad(to_hex(floor(extract(epoch FROM at) * 1000)::bigint), 12, '0')
                 || '70008000' || lpad(n::text, 12, '0'))::uuid, '{}', n, 'inbound',
             'text', {text}, 'service', 'local', 'local', '', '{{}}', at, at
         FROM generate_series(1, {count}) n, LATERAL (SELECT {stored} AS at) stored;
         INSERT INTO inbox_message_words (message_id, number, created_at, words)
         SELECT m.id, m.number, m.created_at, array_to_tsvector(ARRAY['.a' || (number >> 12),
             '.b' || (number >> 17), '.dinbound', '.e' || day, '.f' || (day >> 5),
             '.g' || (day >> 10), '.v' || conversation_id]) || words::tsvector
         FROM (SELECT *, nextval('inbox_message_words_number_seq') AS number, {words} AS words,
                 floor(extract(epoch FROM created_at) / 86400)::int AS day
             FROM (SELECT *, sequence AS n FROM inbox_messages ORDER BY sequence) m) m;
         ANALYZE inbox_messages; ANALYZE inbox_message_words; RESET search_path",
        tables.schema, conversation.id
    );
    tables.admin.batch_execute(&sql).await.unwrap();
    tables
}

#[tokio::test(flavor = "multi_thread")]
async fn all_history_is_found_window_by_window_and_no_page_repeats_or_skips() {
    let (_server, tenant) = tenant().await;
    let text = "CASE WHEN n % 7 = 0 THEN 'hay stack ' || n ELSE 'stack of hay ' || n END";
    let words = "CASE WHEN n % 7 = 0 THEN '''hay'':1 ''stack'':2' ELSE '''stack'':1 ''of'':2 ''hay'':3' END";
    load(&tenant, 2_500, text, words).await;
    let mut request = query(&tenant, "hay stack");
    request.page_size = 130;
    // What comes in meanwhile is on none of the pages.
    let first = tenant.inbox.clone().search_messages(request.clone()).await;
    let first = first.unwrap().into_inner();
    let conversation = tenant.conversation().await;
    tenant.receive(&conversation, "hay stack 9999").await;
    request.page_token = first.next_page_token;
    let rest = all(&tenant, request.clone()).await;
    let numbers = |matches: &[MessageMatch]| -> Vec<u32> {
        let last = |text: &String| text.rsplit(' ').next().unwrap().parse().unwrap();
        texts(matches).iter().map(last).collect()
    };
    let told: Vec<u32> = [numbers(&first.matches), numbers(&rest)].concat();
    // Three windows of a thousand, the phrases of each first.
    let windows = [(1_501, 2_500), (501, 1_500), (1, 500)];
    let expected: Vec<u32> = windows
        .into_iter()
        .flat_map(|(low, high)| {
            let phrases = (low..=high).rev().filter(|n| n % 7 == 0);
            phrases.chain((low..=high).rev().filter(|n| n % 7 != 0))
        })
        .collect();
    assert_eq!(told, expected);
    // A token opens with its own query and filters alone.
    for change in [
        |r: &mut SearchMessagesRequest| r.query = "hay".to_owned(),
        |r: &mut SearchMessagesRequest| r.directions = vec![1],
    ] {
        let mut request = request.clone();
        change(&mut request);
        let refused = tenant.inbox.clone().search_messages(request).await;
        assert_eq!(refusal(refused).1, "INVALID_PAGE_TOKEN");
    }
}

/// The texts on the first three pages.
async fn three_pages(tenant: &TestTenant, mut request: SearchMessagesRequest) -> Vec<String> {
    let mut told = Vec::new();
    for _ in 0..3 {
        let page = tenant.inbox.clone().search_messages(request.clone()).await;
        let page = page.unwrap().into_inner();
        told.extend(texts(&page.matches));
        request.page_token = page.next_page_token;
    }
    told
}

/// Stops the server, whose sessions tell at their end what they have read.
async fn stop(server: TestServer, tables: &Tables) {
    server.stop().await;
    eventually("the tenant's sessions have ended", async || {
        tables.sessions("true").await == 0
    })
    .await;
}

/// How many rows of words a server has read until it stops.
async fn words_read(server: TestServer, tables: &Tables) -> i64 {
    stop(server, tables).await;
    let read = "SELECT idx_tup_fetch FROM pg_stat_user_tables
         WHERE schemaname = '{schema}' AND relname = 'inbox_message_words'";
    tables.count(read).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_common_only_long_ago_is_found_without_reading_all_of_it() {
    let (server, tenant) = tenant().await;
    let words = "CASE WHEN n <= 17000 THEN '''once'':1' ELSE '''now'':1' END";
    drop(load(&tenant, 30_000, "'message ' || n", words).await);
    let mut request = query(&tenant, "once");
    request.page_size = 40;
    let told = three_pages(&tenant, request).await;
    let newest = (16_881..=17_000).rev().map(|n| format!("message {n}"));
    assert_eq!(told, newest.collect::<Vec<_>>());
    let tables = Tables::of(&tenant).await;
    let read = words_read(server, &tables).await;
    // The first blocks, of 4,096 and 8,192 numbers, have none; the next has 15,700. Each page reads
    // a part of a block of 4,096, the first one 1,500 rows of the wide one before.
    assert!((120..=1_500 + 3 * 4_096).contains(&read), "{read} rows");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_stored_before_a_time_is_found_from_there_on() {
    let (server, tenant) = tenant().await;
    // A minute each; five of the latest are as old as can be, as by a clock that was wrong.
    let stored = "directory.now() - make_interval(mins => (
        CASE WHEN n > 20000 AND n % 2000 = 0 THEN 40000 ELSE 30000 - n END)::int)";
    let word = "'''word'':1'";
    drop(load_at(&tenant, 30_000, "'message ' || n", word, stored).await);
    let tables = Tables::of(&tenant).await;
    let before = "SELECT extract(epoch FROM created_at + interval '30 seconds')::bigint
         FROM {schema}.inbox_messages WHERE sequence = 9999";
    let mut request = query(&tenant, "word");
    request.page_size = 40;
    request.end_time = Some(Timestamp {
        seconds: tables.count(before).await,
        nanos: 0,
    });
    let told = three_pages(&tenant, request).await;
    let misplaced = [30_000, 28_000, 26_000, 24_000, 22_000];
    let expected = misplaced.into_iter().chain((9_885..=9_999).rev());
    let expected: Vec<_> = expected.map(|n| format!("message {n}")).collect();
    assert_eq!(told, expected);
    let read = words_read(server, &tables).await;
    // Each page reads one or two blocks of 4,096 numbers, and none of the 20,000 that are later.
    assert!((120..=3 * 2 * 4_096).contains(&read), "{read} rows");
}

#[tokio::test(flavor = "multi_thread")]
async fn conversations_are_found_by_what_is_said_whom_they_are_with_and_their_subject() {
    let (_server, tenant) = tenant().await;
    let begin = async |identifier: &str, name: &str, subject: &str| {
        let request = CreateConversationRequest {
            tenant: tenant.slug(),
            channel: Channel::Email.into(),
            contact_identifier: identifier.to_owned(),
            contact_name: name.to_owned(),
            subject: subject.to_owned(),
            ..Default::default()
        };
        tenant.create(request).await
    };
    let one = begin("jonas@example.com", "Jonas Berg", "Invoice 2026-118").await;
    let other = begin("mila@example.org", "Mila Ødegård", "").await;
    tenant
        .receive(&other, "Where is the invoice for 東京都?")
        .await;
    let third = begin("x@example.org", "Invoice Department", "Reminder").await;
    let told = tenant.receive(&third, "Zanzibar").await;
    let listed = async |text: &str| {
        let request = ListConversationsRequest {
            tenant: tenant.slug(),
            text: text.to_owned(),
            order_by: "create_time".to_owned(),
            ..Default::default()
        };
        let page = tenant.inbox.clone().list_conversations(request).await;
        let found = page.unwrap().into_inner().conversations.into_iter();
        found.map(|found| found.number).collect::<Vec<_>>()
    };
    let all = [&one, &other, &third].map(|conversation| conversation.number);
    for (text, numbers) in [
        ("INVOICE", &all[..]),
        ("invoice 118", &all[..1]),
        ("ødeg", &all[1..2]),
        ("example.org", &all[1..]),
        ("京都", &all[1..2]),
        ("\"the invoice\"", &all[1..2]),
        ("where -invoice", &[]),
        // Not one word here and one there.
        ("jonas invoice", &[]),
        ("zanzibar", &all[2..]),
        ("nobody", &[]),
        ("", &all[..]),
    ] {
        assert_eq!(listed(text).await, numbers, "{text}");
    }

    let rename = async |conversation: &Conversation, subject: &str| {
        let request = UpdateConversationRequest {
            tenant: tenant.slug(),
            conversation_id: conversation.id.clone(),
            subject: Some(subject.to_owned()),
            ..Default::default()
        };
        let mut inbox = tenant.inbox.clone();
        inbox.update_conversation(request).await.unwrap();
    };
    rename(&one, "Invoice of the Zanzibar branch").await;
    rename(&third, "").await;
    let deletion = DeleteMessageRequest {
        tenant: tenant.slug(),
        message_id: told.id,
        ..Default::default()
    };
    let mut inbox = tenant.inbox.clone();
    inbox.delete_message(deletion).await.unwrap();
    for (text, numbers) in [
        ("zanzibar", &all[..1]),
        ("118", &[]),
        ("reminder", &[]),
        ("invoice", &all[..]),
    ] {
        assert_eq!(listed(text).await, numbers, "{text}");
    }

    for text in ["-", "one two three four five six seven eight nine"] {
        let request = ListConversationsRequest {
            tenant: tenant.slug(),
            text: text.to_owned(),
            ..Default::default()
        };
        let (code, _, fields) = refusal(inbox.list_conversations(request).await);
        assert_eq!(code, Code::InvalidArgument);
        assert_eq!(fields, ["text"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_often_of_late_is_found_in_its_conversations() {
    let (_server, tenant) = tenant().await;
    let tables = Tables::of(&tenant).await;
    // As if a hundred thousand messages had been before.
    let many = format!(
        "SELECT setval('{}.inbox_message_words_number_seq', 1099511627776 + 200000)",
        tables.schema
    );
    tables.admin.batch_execute(&many).await.unwrap();
    let words = "CASE WHEN n % 2 = 0 THEN '''often'':1' ELSE '''once'' ''n' || n || '''' END";
    drop(load(&tenant, 600, "'message ' || n", words).await);
    let quiet = tenant.conversation().await;
    tenant.receive(&quiet, "Once only").await;
    let listed = async |text: &str| {
        let request = ListConversationsRequest {
            tenant: tenant.slug(),
            text: text.to_owned(),
            ..Default::default()
        };
        let page = tenant.inbox.clone().list_conversations(request).await;
        let page = page.unwrap().into_inner().conversations;
        page.into_iter().map(|it| it.id).collect::<Vec<_>>()
    };
    assert_eq!(listed("often").await.len(), 1);
    assert!(!listed("often").await.contains(&quiet.id));
    assert_eq!(listed("n7").await, listed("often").await);
    let both = listed("once").await;
    assert!(both.len() == 2 && both.contains(&quiet.id), "{both:?}");
    assert_eq!(listed("only").await, [quiet.id]);
    assert!(listed("never").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_queries_are_words_and_nothing_else() {
    let (_server, tenant) = tenant().await;
    let conversation = tenant.conversation().await;
    tenant.receive(&conversation, "secret canary").await;
    let seeds = [
        "'; DROP TABLE inbox_messages; --",
        "' OR ''='",
        "\" OR \"\"=\"",
        "1); SELECT pg_sleep(5); --",
        "$1 $2 $$ $body$",
        "%s %n {} {{}}",
        "\\' x",
        "\\",
        "x\\",
        "a' | 'secret",
        "a | secret",
        "secret & !x",
        "!zz",
        "secret:*",
        "s':*",
        "x <-> secret",
        "x <1> secret",
        "(secret",
        "secret)",
        "((((",
        "a:ABCD",
        "secret:A",
        "'secret'",
        "''secret''",
        "\u{1}.dinbound",
        ".dinbound",
        "'.dinbound'",
        ".a268435456",
        "x | .dinbound",
        "\r\n\u{85}\u{2028}\u{202e}x",
        "\u{fffd}\u{10ffff}",
        "🏴󠁧󠁢󠁥󠁮󠁧󠁿",
        "e\u{301}\u{301}\u{301}",
        "%",
        "_",
        "__",
        "[a-z]*",
        "^.*$",
        "(a+)+$",
        "\u{200d}\u{200d}",
        "--",
        "-\"-\"",
        "\"\"\"",
        "- -x",
        "*a*",
        "**",
        "a**",
        "NULL",
        "true",
        "{x,y}",
        "\t",
        "😀\u{fe0f}\u{20e3}",
    ];
    let mut corpus: Vec<String> = seeds.iter().map(|seed| (*seed).to_owned()).collect();
    for seed in seeds {
        corpus.extend([
            format!("zz {seed}"),
            format!("{seed} zz"),
            format!("\"zz {seed}\""),
            format!("-{seed} zz"),
        ]);
    }
    assert!(corpus.len() >= 200);
    let mut slowest = Duration::ZERO;
    for hostile in &corpus {
        let begun = Instant::now();
        let request = query(&tenant, hostile);
        match tenant.inbox.clone().search_messages(request).await {
            // Only what has the word and asks for nothing else may find it.
            Ok(page) => {
                let page = page.into_inner();
                let is_plain = ["secret:*", "'secret'", "''secret''", "(secret", "secret)"];
                let finds = is_plain.contains(&hostile.as_str());
                assert_eq!(!page.matches.is_empty(), finds, "{hostile:?}");
            }
            Err(status) => assert_eq!(status.code(), Code::InvalidArgument, "{hostile:?}"),
        }
        slowest = slowest.max(begun.elapsed());
    }
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    // Stored, each is found by itself where it has a word at all.
    for hostile in &seeds {
        tenant.receive(&conversation, hostile).await;
        let quoted = hostile.replace(['"', '*'], " ");
        let request = query(&tenant, &format!("\"{quoted}\""));
        if let Ok(page) = tenant.inbox.clone().search_messages(request).await {
            let texts = texts(&page.into_inner().matches);
            assert!(
                texts.iter().any(|text| text == hostile),
                "{hostile:?} in {texts:?}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_longest_texts_are_stored_and_found() {
    let (_server, tenant) = tenant().await;
    let conversation = tenant.conversation().await;
    let most = 64 * 1024;
    let fill = |unit: &dyn Fn(usize) -> String| {
        let mut text = String::new();
        for number in 0.. {
            let next = unit(number);
            if text.len() + next.len() > most {
                return text;
            }
            text.push_str(&next);
        }
        text
    };
    let han =
        |n: usize| char::from_u32(0x4e00 + u32::try_from(n * 7919 % 20_000).unwrap()).unwrap();
    let texts_of: [(String, &str); 6] = [
        (
            format!("{}needleone", fill(&|_| "a ".to_owned()).split_at(60_000).0),
            "a a a",
        ),
        (fill(&|n| format!("w{n} ")), "w4000"),
        ("x".repeat(most), "xx*"),
        (fill(&|n| han(n).to_string()), "一"),
        (fill(&|_| "'\\ ".to_owned()) + "", ""),
        (fill(&|_| "👍".to_owned()), "👍👍"),
    ];
    for (text, words) in &texts_of {
        let sent = tenant.receive(&conversation, text).await;
        assert_eq!(sent.text, *text);
        if !words.is_empty() {
            let matches = all(&tenant, query(&tenant, words)).await;
            assert_eq!(matches.len(), 1, "{words}");
            let shown: usize = matches[0]
                .snippet
                .iter()
                .map(|part| part.text.chars().count())
                .sum();
            assert!(shown <= 202);
        }
    }
    assert_eq!(found(&tenant, "needleone").await.len(), 1);
}

/// Numbers by chance, the same in each run.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit as u64).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_found_is_what_a_plain_comparison_finds() {
    const WORDS: [&str; 12] = [
        "an", "anna", "Ärger", "arger", "ost", "OSTEN", "straße", "好", "好的", "的好", "不好",
        "👍",
    ];
    let (_server, tenant) = tenant().await;
    let conversation = tenant.conversation().await;
    let mut chance = Chance(0x5eed_1234_abcd_0001);
    let mut stored: Vec<(String, Vec<String>)> = Vec::new();
    for number in 0..120 {
        let length = 1 + chance.below(6);
        let words: Vec<_> = (0..length).map(|_| WORDS[chance.below(12)]).collect();
        // The number keeps texts apart, and is never asked for.
        let text = format!("{} #{number}", words.join(" "));
        tenant.receive(&conversation, &text).await;
        stored.push((text, words.iter().map(|word| plain(word)).collect()));
    }
    for _ in 0..400 {
        let mut asked = Vec::new();
        let mut wanted: Vec<(bool, Vec<String>, bool)> = Vec::new();
        for place in 0..=chance.below(3) {
            let excluded = place > 0 && chance.below(4) == 0;
            let minus = if excluded { "-" } else { "" };
            let length = 1 + chance.below(2);
            let words: Vec<_> = (0..length).map(|_| WORDS[chance.below(12)]).collect();
            let prefix = length == 1 && chance.below(3) == 0 && plain(words[0]).is_ascii();
            let star = if prefix { "*" } else { "" };
            let text = match length {
                1 => format!("{minus}{}{star}", words[0]),
                _ => format!("{minus}\"{}\"", words.join(" ")),
            };
            asked.push(text);
            wanted.push((
                excluded,
                words.iter().map(|word| plain(word)).collect(),
                prefix,
            ));
        }
        let asked = asked.join(" ");
        let expected: BTreeSet<&str> = stored
            .iter()
            .filter(|(_, words)| {
                wanted
                    .iter()
                    .all(|(excluded, phrase, prefix)| has(words, phrase, *prefix) != *excluded)
            })
            .map(|(text, _)| text.as_str())
            .collect();
        let found = found(&tenant, &asked).await;
        let found: BTreeSet<&str> = found.iter().map(String::as_str).collect();
        assert_eq!(found, expected, "{asked}");
    }
}

/// A word of the small vocabulary without what does not matter.
fn plain(word: &str) -> String {
    word.to_lowercase().replace('ä', "a").replace('ß', "ss")
}

/// Compares without any index: Han by characters, the others by words.
fn has(words: &[String], phrase: &[String], prefix: bool) -> bool {
    let is_han = |word: &str| word.chars().all(|c| ('\u{4e00}'..='\u{9fff}').contains(&c));
    let fits = |word: &str, wanted: &str, first: bool, last: bool| {
        if is_han(wanted) {
            // The last word of a text can begin a phrase, and the first can end one.
            is_han(word)
                && match (first, last) {
                    (true, true) => word.contains(wanted),
                    (true, false) => word.ends_with(wanted),
                    (false, true) => word.starts_with(wanted),
                    (false, false) => word == wanted,
                }
        } else if prefix {
            word.starts_with(wanted)
        } else {
            word == wanted
        }
    };
    words.windows(phrase.len()).any(|window| {
        let pairs = window.iter().zip(phrase).enumerate();
        let last = phrase.len() - 1;
        pairs
            .into_iter()
            .all(|(at, (word, wanted))| fits(word, wanted, at == 0, at == last))
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn no_search_reads_a_table_from_end_to_end() {
    let (server, tenant) = tenant().await;
    let words = "'''common'':1 ''n' || n % 1000 || ''':2'";
    let loading = load(&tenant, 50_000, "'common ' || n", words).await;
    // What a session has counted is told at its end at the latest.
    let pid = loading.count("SELECT pg_backend_pid()::bigint").await;
    drop(loading);
    let tables = Tables::of(&tenant).await;
    let left = format!("SELECT count(*) FROM pg_stat_activity WHERE pid = {pid}");
    eventually("the loading session has ended", async || {
        tables.count(&left).await == 0
    })
    .await;
    let scans = async || {
        let scans = "SELECT coalesce(sum(seq_scan), 0)::bigint FROM pg_stat_user_tables
             WHERE schemaname = '{schema}' AND relname IN ('inbox_messages', 'inbox_message_words')";
        tables.count(scans).await
    };
    let index_scans = async || {
        let scans = "SELECT idx_scan FROM pg_stat_user_indexes
             WHERE schemaname = '{schema}' AND indexrelname = 'inbox_message_words_words_idx'";
        tables.count(scans).await
    };
    let (before, searched) = (scans().await, index_scans().await);
    let mut deep = query(&tenant, "common");
    let asked = [
        "common",
        "n7",
        "common n7",
        "\"common n7\"",
        "comm*",
        "common -n7",
        "absent",
        "n77*",
    ];
    for words in asked {
        let page = tenant
            .inbox
            .clone()
            .search_messages(query(&tenant, words))
            .await;
        let page = page.unwrap().into_inner();
        assert_eq!(page.matches.is_empty(), words == "absent", "{words}");
        if words == "common" {
            deep.page_token = page.next_page_token;
        }
    }
    tenant.inbox.clone().search_messages(deep).await.unwrap();
    stop(server, &tables).await;
    assert!(index_scans().await >= searched + 9);
    assert_eq!(scans().await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_from_before_the_index_are_added_behind_those_that_come() {
    let (server, tenant) = tenant().await;
    let conversation = tenant.conversation().await;
    for number in 1..=3 {
        let text = format!("history {number}");
        tenant.receive(&conversation, &text).await;
    }
    let tables = Tables::of(&tenant).await;
    // As the migration leaves a tenant with messages.
    let before = format!(
        "SET search_path = {};
         INSERT INTO inbox_messages (id, conversation_id, sequence, direction, type, text,
             actor_kind, actor_id, caller, correlation_id, metadata, created_at, updated_at)
         SELECT ('00000000-0000-7000-8000-' || lpad(n::text, 12, '0'))::uuid, '{}', 10000 + n,
             'inbound', 'text', 'ancient ' || n, 'service', 'local', 'local', '', '{{}}',
             directory.now(), directory.now()
         FROM generate_series(1, 1200) n;
         DELETE FROM inbox_message_words;
         INSERT INTO inbox_message_words_backfill
         SELECT 'ffffffff-ffff-ffff-ffff-ffffffffffff', directory.now() - interval '2 minutes';
         UPDATE directory.tenants SET cleaned_at = 'epoch' WHERE schema_name = '{}';
         RESET search_path",
        tables.schema, conversation.id, tables.schema
    );
    tables.admin.batch_execute(&before).await.unwrap();
    tenant.receive(&conversation, "history now").await;
    assert_eq!(found(&tenant, "history").await, ["history now"]);
    // The janitor of a server that starts comes within two seconds.
    let helper = TestServer::start().await;
    // The one of another test's server may have had this tenant in hand when that server ended.
    let again = format!(
        "UPDATE directory.tenants SET cleaned_at = 'epoch' WHERE schema_name = '{}'",
        tables.schema
    );
    eventually("the backfill has ended", async || {
        let left = "SELECT count(*) FROM {schema}.inbox_message_words_backfill";
        let ended = tables.count(left).await == 0;
        if !ended {
            tables.admin.batch_execute(&again).await.unwrap();
        }
        ended
    })
    .await;
    let history = found(&tenant, "history").await;
    assert_eq!(
        history,
        ["history now", "history 3", "history 2", "history 1"]
    );
    let ancient = found(&tenant, "ancient").await;
    let expected: Vec<_> = (1..=1_200).rev().map(|n| format!("ancient {n}")).collect();
    assert_eq!(ancient, expected);
    helper.stop().await;
    server.stop().await;
}
