//! Quick replies: kept, found, filled in and counted.

use std::collections::BTreeSet;

use communication_service::pb::{
    Actor, CreateConversationRequest, CreateMessageRequest, CreateQuickReplyRequest,
    DeleteQuickReplyRequest, EraseContactRequest, GetQuickReplyRequest, GetQuickReplyStatsRequest,
    ListQuickRepliesRequest, ListQuickReplyUsesRequest, MessageDirection, QuickReply,
    QuickReplyScope, QuickReplyUsage, QuickReplyUse, QuickReplyVariable, QuickReplyVariableType,
    QuickReplyVariant, UndeleteQuickReplyRequest, UpdateQuickReplyRequest, UseQuickReplyRequest,
    UseQuickReplyResponse,
};
use prost_types::{FieldMask, Timestamp};
use tonic::{Code, Status};

use crate::harness::{Refusal, Tables, TestTenant, admin, eventually, refusal, tenant, user};

fn new(tenant: &TestTenant, shortcut: &str, text: &str) -> CreateQuickReplyRequest {
    CreateQuickReplyRequest {
        tenant: tenant.slug(),
        shortcut: shortcut.to_owned(),
        text: text.to_owned(),
        ..Default::default()
    }
}

async fn try_create(
    tenant: &TestTenant,
    request: CreateQuickReplyRequest,
) -> Result<QuickReply, Status> {
    let answer = tenant
        .quick_replies
        .clone()
        .create_quick_reply(request)
        .await;
    answer.map(|answer| answer.into_inner().quick_reply.unwrap())
}

async fn create(tenant: &TestTenant, request: CreateQuickReplyRequest) -> QuickReply {
    try_create(tenant, request).await.unwrap()
}

async fn get(tenant: &TestTenant, id: &str, actor: Option<Actor>) -> Result<QuickReply, Status> {
    let request = GetQuickReplyRequest {
        tenant: tenant.slug(),
        actor,
        quick_reply_id: id.to_owned(),
    };
    let answer = tenant.quick_replies.clone().get_quick_reply(request).await;
    answer.map(|answer| answer.into_inner().quick_reply.unwrap())
}

async fn update(
    tenant: &TestTenant,
    request: UpdateQuickReplyRequest,
) -> Result<QuickReply, Status> {
    let answer = tenant
        .quick_replies
        .clone()
        .update_quick_reply(request)
        .await;
    answer.map(|answer| answer.into_inner().quick_reply.unwrap())
}

fn edit(tenant: &TestTenant, quick_reply: &QuickReply) -> UpdateQuickReplyRequest {
    UpdateQuickReplyRequest {
        tenant: tenant.slug(),
        quick_reply_id: quick_reply.id.clone(),
        ..Default::default()
    }
}

fn deletion(tenant: &TestTenant, quick_reply: &QuickReply) -> DeleteQuickReplyRequest {
    DeleteQuickReplyRequest {
        tenant: tenant.slug(),
        quick_reply_id: quick_reply.id.clone(),
        ..Default::default()
    }
}

async fn delete(
    tenant: &TestTenant,
    request: DeleteQuickReplyRequest,
) -> Result<Option<QuickReply>, Status> {
    let answer = tenant
        .quick_replies
        .clone()
        .delete_quick_reply(request)
        .await;
    answer.map(|answer| answer.into_inner().quick_reply)
}

fn undeletion(tenant: &TestTenant, quick_reply: &QuickReply) -> UndeleteQuickReplyRequest {
    UndeleteQuickReplyRequest {
        tenant: tenant.slug(),
        quick_reply_id: quick_reply.id.clone(),
        ..Default::default()
    }
}

async fn undelete(
    tenant: &TestTenant,
    request: UndeleteQuickReplyRequest,
) -> Result<QuickReply, Status> {
    let answer = tenant
        .quick_replies
        .clone()
        .undelete_quick_reply(request)
        .await;
    answer.map(|answer| answer.into_inner().quick_reply.unwrap())
}

fn new_use(tenant: &TestTenant, quick_reply: &QuickReply) -> UseQuickReplyRequest {
    UseQuickReplyRequest {
        tenant: tenant.slug(),
        quick_reply_id: quick_reply.id.clone(),
        ..Default::default()
    }
}

async fn try_use(
    tenant: &TestTenant,
    request: UseQuickReplyRequest,
) -> Result<UseQuickReplyResponse, Status> {
    let answer = tenant.quick_replies.clone().use_quick_reply(request).await;
    answer.map(tonic::Response::into_inner)
}

fn all(tenant: &TestTenant) -> ListQuickRepliesRequest {
    ListQuickRepliesRequest {
        tenant: tenant.slug(),
        ..Default::default()
    }
}

/// Lists in pages of two.
async fn list(tenant: &TestTenant, mut request: ListQuickRepliesRequest) -> Vec<QuickReply> {
    let mut all = Vec::new();
    request.page_size = 2;
    loop {
        let answer = tenant
            .quick_replies
            .clone()
            .list_quick_replies(request.clone())
            .await;
        let page = answer.unwrap().into_inner();
        all.extend(page.quick_replies);
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            return all;
        }
    }
}

fn shortcuts(quick_replies: &[QuickReply]) -> Vec<&str> {
    let shortcuts = quick_replies.iter();
    shortcuts.map(|one| one.shortcut.as_str()).collect()
}

/// Lists uses in pages of two.
async fn uses(tenant: &TestTenant, mut request: ListQuickReplyUsesRequest) -> Vec<QuickReplyUse> {
    let mut all = Vec::new();
    request.tenant = tenant.slug();
    request.page_size = 2;
    loop {
        let answer = tenant
            .quick_replies
            .clone()
            .list_quick_reply_uses(request.clone())
            .await;
        let page = answer.unwrap().into_inner();
        all.extend(page.uses);
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            return all;
        }
    }
}

/// Counts uses, in pages of two.
async fn stats(tenant: &TestTenant, mut request: GetQuickReplyStatsRequest) -> Vec<(String, i64)> {
    let mut all = Vec::new();
    request.tenant = tenant.slug();
    request.page_size = 2;
    loop {
        let answer = tenant
            .quick_replies
            .clone()
            .get_quick_reply_stats(request.clone())
            .await;
        let page = answer.unwrap().into_inner();
        let usage = |usage: QuickReplyUsage| (usage.shortcut, usage.uses);
        all.extend(page.usages.into_iter().map(usage));
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            return all;
        }
    }
}

fn variable(name: &str, variable_type: QuickReplyVariableType) -> QuickReplyVariable {
    QuickReplyVariable {
        name: name.to_owned(),
        r#type: variable_type.into(),
        fallback: None,
    }
}

fn variant(language: &str, text: &str) -> QuickReplyVariant {
    QuickReplyVariant {
        language: language.to_owned(),
        text: text.to_owned(),
    }
}

fn why<T: std::fmt::Debug>(answer: Result<T, Status>) -> (Code, String) {
    let refusal = Refusal::of(&answer.unwrap_err());
    (refusal.code, refusal.reason)
}

fn is(code: Code, reason: &str) -> (Code, String) {
    (code, reason.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quick_reply_is_kept_as_it_was_made() {
    let (_server, tenant) = tenant().await;
    let request = CreateQuickReplyRequest {
        request_id: "make-it".to_owned(),
        title: "Greeting".to_owned(),
        language: "EN-us".to_owned(),
        variants: vec![variant("PT-br", "Olá {{order}}"), variant("de", "Hallo")],
        variables: vec![QuickReplyVariable {
            fallback: Some("7".to_owned()),
            ..variable("order", QuickReplyVariableType::Number)
        }],
        ..new(&tenant, "/Hi", "Hello {{contact.name|there}} {{order}}")
    };
    let made = create(&tenant, request.clone()).await;
    assert_eq!(made.scope(), QuickReplyScope::Tenant);
    assert_eq!(
        (made.shortcut.as_str(), made.language.as_str()),
        ("/Hi", "en-US")
    );
    assert_eq!(
        made.variants,
        [variant("pt-BR", "Olá {{order}}"), variant("de", "Hallo")]
    );
    assert_eq!(made.variables, request.variables);
    assert_eq!((made.usage_count, made.version), (0, 1));
    assert_eq!((made.last_used_time, made.delete_time), (None, None));
    assert_eq!(get(&tenant, &made.id, None).await.unwrap(), made);
    assert_eq!(list(&tenant, all(&tenant)).await[0], made);

    let again = create(&tenant, request.clone()).await;
    assert_eq!(again, made);
    let other = CreateQuickReplyRequest {
        title: "Other".to_owned(),
        ..request
    };
    let reused = is(Code::AlreadyExists, "REQUEST_ID_REUSED");
    assert_eq!(why(try_create(&tenant, other).await), reused);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shortcut_is_unique_in_its_scope_whatever_its_case() {
    let (_server, tenant) = tenant().await;
    let of = |shortcut: &str, team: &str, owner: &str| CreateQuickReplyRequest {
        team_id: team.to_owned(),
        user_id: owner.to_owned(),
        ..new(&tenant, shortcut, "Hello")
    };
    let taken = is(Code::AlreadyExists, "QUICK_REPLY_SHORTCUT_TAKEN");
    for (team, owner) in [("", ""), ("a", ""), ("b", ""), ("", "a"), ("", "b")] {
        create(&tenant, of("Größe", team, owner)).await;
        let again = try_create(&tenant, of("GRÖSSE", team, owner)).await;
        assert_eq!(why(again), taken, "{team} {owner}");
    }
    let other = create(&tenant, of("other", "", "")).await;
    let mut rename = edit(&tenant, &other);
    rename.shortcut = Some("größe".to_owned());
    assert_eq!(why(update(&tenant, rename.clone()).await), taken);
    // Its own shortcut is not in its way.
    rename.shortcut = Some("OTHER".to_owned());
    let renamed = update(&tenant, rename).await.unwrap();
    assert_eq!(renamed.shortcut, "OTHER");

    let calls = (0..32).map(|_| {
        let (tenant, request) = (tenant.clone(), of("race", "a", ""));
        tokio::spawn(async move { try_create(&tenant, request).await })
    });
    let mut made = 0;
    for call in calls.collect::<Vec<_>>() {
        match call.await.unwrap() {
            Ok(_) => made += 1,
            refused => assert_eq!(why(refused), taken),
        }
    }
    assert_eq!(made, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_users_own_quick_reply_exists_for_its_owner_alone() {
    let (_server, tenant) = tenant().await;
    let own = |actor: Option<Actor>, owner: &str| CreateQuickReplyRequest {
        actor,
        scope: QuickReplyScope::User.into(),
        user_id: owner.to_owned(),
        ..new(&tenant, "mine", "Hello")
    };
    for (actor, owner) in [(user("ann"), "bob"), (None, "")] {
        let refused = tenant
            .quick_replies
            .clone()
            .create_quick_reply(own(actor, owner))
            .await;
        let (code, _, fields) = refusal(refused);
        assert_eq!(
            (code, fields),
            (Code::InvalidArgument, vec!["user_id".to_owned()])
        );
    }
    let mine = create(&tenant, own(user("ann"), "")).await;
    assert_eq!(
        (mine.scope(), mine.user_id.as_str()),
        (QuickReplyScope::User, "ann")
    );
    // A service makes it for whom it names.
    let bobs = create(&tenant, own(None, "bob")).await;
    assert_eq!(bobs.user_id, "bob");
    let team = CreateQuickReplyRequest {
        team_id: "team".to_owned(),
        ..new(&tenant, "ours", "Hello")
    };
    create(&tenant, team).await;
    let used = UseQuickReplyRequest {
        actor: user("ann"),
        ..new_use(&tenant, &mine)
    };
    try_use(&tenant, used.clone()).await.unwrap();

    let missing = is(Code::NotFound, "RESOURCE_NOT_FOUND");
    for stranger in [user("bob"), None] {
        let by = || stranger.clone();
        assert_eq!(why(get(&tenant, &mine.id, by()).await), missing);
        let changed = UpdateQuickReplyRequest {
            actor: by(),
            title: Some("Mine now".to_owned()),
            ..edit(&tenant, &mine)
        };
        assert_eq!(why(update(&tenant, changed).await), missing);
        let gone = DeleteQuickReplyRequest {
            actor: by(),
            ..deletion(&tenant, &mine)
        };
        assert_eq!(why(delete(&tenant, gone).await), missing);
        let back = UndeleteQuickReplyRequest {
            actor: by(),
            ..undeletion(&tenant, &mine)
        };
        assert_eq!(why(undelete(&tenant, back).await), missing);
        let used = UseQuickReplyRequest {
            actor: by(),
            ..used.clone()
        };
        assert_eq!(why(try_use(&tenant, used).await), missing);
        let of_mine = ListQuickReplyUsesRequest {
            actor: by(),
            quick_reply_id: mine.id.clone(),
            ..Default::default()
        };
        assert_eq!(uses(&tenant, of_mine).await, []);
        let counted = GetQuickReplyStatsRequest {
            actor: by(),
            ..Default::default()
        };
        assert_eq!(stats(&tenant, counted).await, []);
    }
    let seen_by = async |actor: Option<Actor>, owner: &str| {
        let request = ListQuickRepliesRequest {
            actor,
            user_id: owner.to_owned(),
            ..all(&tenant)
        };
        let seen = list(&tenant, request).await.into_iter();
        seen.map(|one| one.shortcut + "/" + &one.user_id)
            .collect::<Vec<_>>()
    };
    assert_eq!(seen_by(user("ann"), "").await, ["mine/ann", "ours/"]);
    assert_eq!(seen_by(user("bob"), "").await, ["mine/bob", "ours/"]);
    assert_eq!(seen_by(user("carl"), "").await, ["ours/"]);
    assert_eq!(seen_by(None, "").await, ["ours/"]);
    assert_eq!(seen_by(None, "ann").await, ["mine/ann"]);
    assert_eq!(seen_by(user("ann"), "ann").await, ["mine/ann"]);
    assert_eq!(seen_by(user("bob"), "ann").await, Vec::<String>::new());

    // A service that names the user whose uses it asks for sees those of the user's own too.
    let of_ann = ListQuickReplyUsesRequest {
        user_id: "ann".to_owned(),
        ..Default::default()
    };
    assert_eq!(uses(&tenant, of_ann).await.len(), 1);
    let by_ann = GetQuickReplyStatsRequest {
        actor: user("ann"),
        ..Default::default()
    };
    assert_eq!(stats(&tenant, by_ann).await, [("mine".to_owned(), 1)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_template_is_refused_by_field_and_character() {
    let (_server, tenant) = tenant().await;
    let refused = async |request: CreateQuickReplyRequest| {
        let status = try_create(&tenant, request).await.unwrap_err();
        let refusal = Refusal::of(&status);
        assert_eq!(refusal.why(), (Code::InvalidArgument, "INVALID_FIELD"));
        refusal.fields.into_iter().collect::<Vec<_>>()
    };
    let cases = [
        ("Hello {{contact.name", "at character 7 "),
        ("ä }} ", "at character 3 "),
        (
            "{{contact.nane}}",
            "at character 1 has the variable `contact.nane`",
        ),
        (
            "{{day}} {{dya|soon}}",
            "at character 9 has the variable `dya`",
        ),
        ("{{#if x}}", "at character 1 "),
    ];
    for (text, problem) in cases {
        let declares = CreateQuickReplyRequest {
            variables: vec![variable("day", QuickReplyVariableType::Date)],
            ..new(&tenant, "x", text)
        };
        let fields = refused(declares.clone()).await;
        assert_eq!(fields.len(), 1, "{text}");
        assert_eq!(fields[0].0, "text");
        assert!(
            fields[0].1.starts_with(problem) || fields[0].1.contains(problem),
            "{fields:?}"
        );

        let in_variant = CreateQuickReplyRequest {
            text: "fine".to_owned(),
            variants: vec![variant("de", "gut"), variant("fr", text)],
            ..declares
        };
        let fields = refused(in_variant).await;
        assert_eq!(fields[0].0, "variants[1].text");
    }
    let odd = CreateQuickReplyRequest {
        variants: vec![variant("DE", "a"), variant("de", "b"), variant("en", "c")],
        language: "en".to_owned(),
        variables: vec![
            variable("contact.city", QuickReplyVariableType::Text),
            variable("day", QuickReplyVariableType::Text),
            variable("day", QuickReplyVariableType::Date),
        ],
        ..new(&tenant, "x", "Hello")
    };
    let fields = refused(odd).await.into_iter().map(|(field, _)| field);
    assert_eq!(
        fields.collect::<Vec<_>>(),
        [
            "variables[0].name",
            "variables[2].name",
            "variants[1].language",
            "variants[2].language",
        ]
    );
    let odd = CreateQuickReplyRequest {
        scope: QuickReplyScope::Team.into(),
        user_id: "ann".to_owned(),
        language: "english".repeat(3),
        variants: vec![variant("", "a")],
        variables: vec![QuickReplyVariable {
            fallback: Some("soon".to_owned()),
            ..variable("Day", QuickReplyVariableType::Date)
        }],
        ..new(&tenant, "two words", "")
    };
    let fields = refused(odd).await.into_iter().map(|(field, _)| field);
    assert_eq!(
        fields.collect::<Vec<_>>(),
        [
            "language",
            "shortcut",
            "team_id",
            "text",
            "user_id",
            "variables[0].fallback",
            "variables[0].name",
            "variants[0].language",
        ]
    );
    let many = CreateQuickReplyRequest {
        variants: vec![variant("de", "a"); 21],
        variables: vec![variable("a", QuickReplyVariableType::Text); 51],
        ..new(&tenant, "x", "Hello")
    };
    let fields = refused(many).await.into_iter().map(|(field, _)| field);
    assert_eq!(fields.collect::<Vec<_>>(), ["variables", "variants"]);
    assert_eq!(list(&tenant, all(&tenant)).await, []);

    // What is edited has to fit what is not.
    let request = CreateQuickReplyRequest {
        variables: vec![variable("day", QuickReplyVariableType::Date)],
        ..new(&tenant, "day", "Until {{day}}")
    };
    let made = create(&tenant, request).await;
    let mut changed = edit(&tenant, &made);
    changed.update_mask = Some(FieldMask {
        paths: vec!["variables".to_owned()],
    });
    let status = update(&tenant, changed.clone()).await.unwrap_err();
    let refusal = Refusal::of(&status);
    let problem = "lacks `day`, which `text` has at character 7";
    assert_eq!(refusal.fields["variables"], problem);
    changed.update_mask = Some(FieldMask {
        paths: vec!["variables".to_owned(), "text".to_owned()],
    });
    changed.text = Some(r"Until \{{day\}}".to_owned());
    let changed = update(&tenant, changed).await.unwrap();
    assert_eq!(changed.variables, []);
    let used = try_use(&tenant, new_use(&tenant, &made)).await.unwrap();
    assert_eq!(used.text, "Until {{day}}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_use_fills_in_who_and_what_it_is_about() {
    let (_server, tenant) = tenant().await;
    let conversation = tenant
        .create(CreateConversationRequest {
            contact_name: "Jane van Doe".to_owned(),
            contact_identifier: "+15550001".to_owned(),
            subject: "Order 7".to_owned(),
            ..tenant.new_conversation()
        })
        .await;
    let text = "{{contact.name}} {{contact.first_name}} {{contact.identifier}} \
        {{conversation.number}} {{conversation.subject|none}} {{conversation.channel}} {{agent.id}} \
        {{price}} {{day|soon}} {{link}} {{day}}";
    let request = CreateQuickReplyRequest {
        language: "en".to_owned(),
        variants: vec![variant("de", "Hallo {{contact.first_name|du}}")],
        variables: vec![
            QuickReplyVariable {
                fallback: Some("9.99".to_owned()),
                ..variable("price", QuickReplyVariableType::Number)
            },
            variable("day", QuickReplyVariableType::Date),
            variable("link", QuickReplyVariableType::Url),
        ],
        ..new(&tenant, "all", text)
    };
    let made = create(&tenant, request).await;
    let request = UseQuickReplyRequest {
        actor: user("ann"),
        conversation_id: conversation.id.clone(),
        ..new_use(&tenant, &made)
    };
    let used = try_use(&tenant, request.clone()).await.unwrap();
    assert_eq!(
        used.text,
        format!(
            "Jane van Doe Jane +15550001 {} Order 7 whatsapp ann 9.99 soon {{{{link}}}} {{{{day}}}}",
            conversation.number
        )
    );
    assert_eq!(used.missing_variables, ["link", "day"]);
    assert_eq!((used.language.as_str(), used.usage_count), ("en", 1));

    let mut given = request.clone();
    given.variables = [
        ("price", "12.50"),
        ("day", "2026-01-31"),
        ("link", "https://example.com/{{agent.id}}"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    let used = try_use(&tenant, given.clone()).await.unwrap();
    assert!(
        used.text
            .ends_with("ann 12.50 2026-01-31 https://example.com/{{agent.id}} 2026-01-31"),
        "{}",
        used.text
    );
    assert_eq!(used.missing_variables, Vec::<String>::new());

    let german = UseQuickReplyRequest {
        language: "de-AT".to_owned(),
        ..request.clone()
    };
    let used = try_use(&tenant, german.clone()).await.unwrap();
    assert_eq!(
        (used.text.as_str(), used.language.as_str()),
        ("Hallo Jane", "de")
    );
    // Without a conversation, what it would say has no value.
    let nobody = UseQuickReplyRequest {
        conversation_id: String::new(),
        ..german
    };
    assert_eq!(try_use(&tenant, nobody).await.unwrap().text, "Hallo du");

    for (name, value, field) in [
        ("day", "tomorrow", "variables[day]"),
        ("price", "much", "variables[price]"),
        ("link", "javascript:alert(1)", "variables[link]"),
        ("other", "x", "variables"),
        ("contact.name", "x", "variables"),
        ("day\0", "x", "variables"),
    ] {
        let mut wrong = given.clone();
        wrong.variables.insert(name.to_owned(), value.to_owned());
        let refusal = Refusal::of(&try_use(&tenant, wrong).await.unwrap_err());
        assert_eq!(refusal.why(), (Code::InvalidArgument, "INVALID_FIELD"));
        assert!(refusal.names(field), "{refusal:?}");
    }
    let absent = UseQuickReplyRequest {
        conversation_id: made.id.clone(),
        ..request
    };
    let refusal = Refusal::of(&try_use(&tenant, absent).await.unwrap_err());
    assert_eq!(refusal.resource.unwrap().0, "conversation");
    let counted = get(&tenant, &made.id, None).await.unwrap();
    assert_eq!((counted.usage_count, counted.version), (4, 5));
    assert!(counted.last_used_time.is_some());

    let long = CreateQuickReplyRequest {
        variables: vec![variable("a", QuickReplyVariableType::Text)],
        ..new(&tenant, "long", &"{{a}}".repeat(100))
    };
    let long = create(&tenant, long).await;
    let mut request = new_use(&tenant, &long);
    request.variables = [("a".to_owned(), "x".repeat(1000))].into();
    let too_long = is(Code::FailedPrecondition, "QUICK_REPLY_TOO_LONG");
    assert_eq!(why(try_use(&tenant, request).await), too_long);
    assert_eq!(get(&tenant, &long.id, None).await.unwrap().usage_count, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_uses_at_once_are_counted_exactly() {
    let (_server, tenant) = tenant().await;
    let made = create(&tenant, new(&tenant, "hi", "Hello {{agent.id}}")).await;
    let conversation = tenant.conversation().await;
    let calls = (0..64).map(|number| {
        let tenant = tenant.clone();
        let request = UseQuickReplyRequest {
            actor: user(&format!("user-{number}")),
            conversation_id: conversation.id.clone(),
            // Half of them with a request id, which is another way through the statement.
            request_id: if number % 2 == 0 {
                String::new()
            } else {
                format!("use-{number}")
            },
            ..new_use(&tenant, &made)
        };
        tokio::spawn(async move { try_use(&tenant, request).await.unwrap() })
    });
    let mut counts = BTreeSet::new();
    let mut ids = BTreeSet::new();
    for call in calls.collect::<Vec<_>>() {
        let used = call.await.unwrap();
        counts.insert(used.usage_count);
        ids.insert(used.use_id);
    }
    assert_eq!(counts, (1..=64).collect());
    let after = get(&tenant, &made.id, None).await.unwrap();
    assert_eq!((after.usage_count, after.version), (64, 65));
    assert_eq!(after.etag, made.etag);
    assert_eq!(after.update_time, made.update_time);

    let recorded = uses(&tenant, ListQuickReplyUsesRequest::default()).await;
    let recorded_ids: BTreeSet<_> = recorded.iter().map(|one| one.id.clone()).collect();
    assert_eq!(recorded_ids, ids);
    let users: BTreeSet<_> = recorded
        .iter()
        .map(|one| format!("{:?}", one.actor.clone().unwrap().kind))
        .collect();
    assert_eq!(users.len(), 64);
    assert!(
        recorded
            .iter()
            .all(|one| one.conversation_id == conversation.id)
    );
    let tables = Tables::of(&tenant).await;
    let events = "SELECT count(DISTINCT version) FROM {schema}.events
        WHERE kind = 'quick_reply.used' AND resource_kind = 'quick_reply'
            AND changed = '{usage_count,last_used_time}'";
    assert_eq!(tables.count(events).await, 64);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_use_counts_once() {
    let (_server, tenant) = tenant().await;
    let made = create(&tenant, new(&tenant, "hi", "Hello {{contact.name}}")).await;
    let request = UseQuickReplyRequest {
        request_id: "use-it".to_owned(),
        ..new_use(&tenant, &made)
    };
    let calls = (0..32).map(|_| {
        let (tenant, request) = (tenant.clone(), request.clone());
        tokio::spawn(async move { try_use(&tenant, request).await.unwrap() })
    });
    let mut answers = Vec::new();
    for call in calls.collect::<Vec<_>>() {
        answers.push(call.await.unwrap());
    }
    assert!(answers.iter().all(|answer| *answer == answers[0]));
    assert_eq!(answers[0].usage_count, 1);
    assert_eq!(get(&tenant, &made.id, None).await.unwrap().usage_count, 1);
    assert_eq!(
        uses(&tenant, ListQuickReplyUsesRequest::default())
            .await
            .len(),
        1
    );

    let other = UseQuickReplyRequest {
        language: "de".to_owned(),
        ..request.clone()
    };
    let reused = is(Code::AlreadyExists, "REQUEST_ID_REUSED");
    assert_eq!(why(try_use(&tenant, other).await), reused);
    // The answer does not depend on what has become of the quick reply since.
    delete(&tenant, deletion(&tenant, &made)).await.unwrap();
    assert_eq!(try_use(&tenant, request).await.unwrap(), answers[0]);
    let missing = is(Code::NotFound, "RESOURCE_NOT_FOUND");
    assert_eq!(
        why(try_use(&tenant, new_use(&tenant, &made)).await),
        missing
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erased_person_is_in_no_kept_answer() {
    let (_server, tenant) = tenant().await;
    let conversation = tenant
        .create(CreateConversationRequest {
            contact_name: "Jane".to_owned(),
            ..tenant.new_conversation()
        })
        .await;
    let made = create(&tenant, new(&tenant, "hi", "Hello {{contact.name}}")).await;
    let request = UseQuickReplyRequest {
        request_id: "use-it".to_owned(),
        conversation_id: conversation.id.clone(),
        ..new_use(&tenant, &made)
    };
    let used = try_use(&tenant, request.clone()).await.unwrap();
    assert_eq!(used.text, "Hello Jane");
    let erasure = EraseContactRequest {
        tenant: tenant.slug(),
        contact_id: conversation.contact_id.clone(),
        ..Default::default()
    };
    tenant.inbox.clone().erase_contact(erasure).await.unwrap();
    let erased = is(Code::FailedPrecondition, "ANSWER_ERASED");
    assert_eq!(why(try_use(&tenant, request).await), erased);
    let kept = "SELECT count(*) FROM {schema}.requests WHERE response::text LIKE '%Jane%'";
    assert_eq!(Tables::of(&tenant).await.count(kept).await, 0);
    // That it was used stays on record.
    assert_eq!(get(&tenant, &made.id, None).await.unwrap().usage_count, 1);
    let recorded = uses(&tenant, ListQuickReplyUsesRequest::default()).await;
    assert_eq!(recorded[0].conversation_id, conversation.id);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_of_a_quick_reply_is_filled_in_stored_and_counted_at_once() {
    let (_server, tenant) = tenant().await;
    let conversation = tenant
        .create(CreateConversationRequest {
            contact_name: "Jane".to_owned(),
            ..tenant.new_conversation()
        })
        .await;
    let request = CreateQuickReplyRequest {
        variants: vec![variant("de", "Hallo {{contact.name}}, {{order}}")],
        variables: vec![variable("order", QuickReplyVariableType::Number)],
        ..new(&tenant, "hi", "Hello {{contact.name}}, {{order}}")
    };
    let made = create(&tenant, request).await;
    let mut message = tenant.new_message(&conversation, "");
    message.actor = user("ann");
    message.request_id = "send-it".to_owned();
    message.quick_reply_id = made.id.clone();
    message.language = "de-CH".to_owned();
    message.variables = [("order".to_owned(), "7".to_owned())].into();
    let calls = (0..32).map(|_| {
        let (tenant, request) = (tenant.clone(), message.clone());
        tokio::spawn(async move { tenant.send(request).await })
    });
    let mut answers = Vec::new();
    for call in calls.collect::<Vec<_>>() {
        answers.push(call.await.unwrap());
    }
    assert!(answers.iter().all(|answer| *answer == answers[0]));
    assert_eq!(answers[0].text, "Hallo Jane, 7");
    assert_eq!(tenant.messages(&conversation).await, answers[..1]);
    let counted = async || get(&tenant, &made.id, None).await.unwrap().usage_count;
    assert_eq!(counted().await, 1);
    let recorded = uses(&tenant, ListQuickReplyUsesRequest::default()).await;
    assert_eq!(recorded.len(), 1);
    assert_eq!(recorded[0].message_id, answers[0].id);
    assert_eq!(recorded[0].conversation_id, conversation.id);
    assert_eq!(
        (&recorded[0].actor, recorded[0].language.as_str()),
        (&user("ann"), "de")
    );

    // Different requests at once: each counts.
    message.request_id = String::new();
    let calls = (0..32).map(|_| {
        let (tenant, request) = (tenant.clone(), message.clone());
        tokio::spawn(async move { tenant.send(request).await })
    });
    for call in calls.collect::<Vec<_>>() {
        call.await.unwrap();
    }
    assert_eq!(
        (counted().await, tenant.messages(&conversation).await.len()),
        (33, 33)
    );

    let send = async |request| tenant.inbox.clone().create_message(request).await;
    let mut missing = message.clone();
    missing.variables.clear();
    let refusal = Refusal::of(&send(missing).await.unwrap_err());
    let reason = "QUICK_REPLY_VARIABLES_MISSING";
    assert_eq!(refusal.why(), (Code::FailedPrecondition, reason));
    assert_eq!(refusal.metadata["variables"], "order");
    let refused = async |change: fn(&mut CreateMessageRequest)| {
        let mut request = message.clone();
        change(&mut request);
        let refusal = Refusal::of(&send(request).await.unwrap_err());
        assert_eq!(refusal.code, Code::InvalidArgument, "{refusal:?}");
        refusal.fields.into_keys().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(refused(|new| new.text = "beside".to_owned()).await, "text");
    let inbound = |new: &mut CreateMessageRequest| new.direction = MessageDirection::Inbound.into();
    assert_eq!(refused(inbound).await, "quick_reply_id");
    let alone = |new: &mut CreateMessageRequest| {
        new.quick_reply_id = String::new();
        new.text = "alone".to_owned();
    };
    assert_eq!(refused(alone).await, "language variables");
    let wrong = |new: &mut CreateMessageRequest| {
        new.variables.insert("order".to_owned(), "seven".to_owned());
    };
    assert_eq!(refused(wrong).await, "variables[order]");
    let nothing = create(&tenant, new(&tenant, "nothing", "{{agent.id|}}")).await;
    let mut empty = tenant.new_message(&conversation, "");
    empty.quick_reply_id = nothing.id;
    let refusal = Refusal::of(&send(empty).await.unwrap_err());
    assert!(refusal.names("quick_reply_id"), "{refusal:?}");

    // What is refused counts nothing: also where the conversation is in the way.
    let archive = format!(
        "UPDATE {}.inbox_conversations SET status = 'archived', archived_at = now()",
        tenant.tenant.schema_name
    );
    admin().await.batch_execute(&archive).await.unwrap();
    let archived = is(Code::FailedPrecondition, "CONVERSATION_ARCHIVED");
    assert_eq!(why(send(message.clone()).await), archived);
    let mut note = message.clone();
    note.direction = MessageDirection::Internal.into();
    assert_eq!(tenant.send(note).await.text, "Hallo Jane, 7");
    assert_eq!(counted().await, 34);

    // The answer to a request does not depend on what has become of the quick reply since.
    delete(&tenant, deletion(&tenant, &made)).await.unwrap();
    let not_found = is(Code::NotFound, "RESOURCE_NOT_FOUND");
    assert_eq!(why(send(message.clone()).await), not_found);
    message.request_id = "send-it".to_owned();
    assert_eq!(tenant.send(message).await, answers[0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_used_what_when_is_listed_and_counted() {
    let (_server, tenant) = tenant().await;
    let mut made = Vec::new();
    for shortcut in ["a", "b", "c"] {
        made.push(create(&tenant, new(&tenant, shortcut, "Hello")).await);
    }
    // Which quick reply, by whom, on which day.
    let plan = [
        (0, Some("ann"), 1),
        (1, Some("ann"), 2),
        (1, Some("bob"), 3),
        (2, None, 4),
        (1, Some("bob"), 5),
        (2, Some("ann"), 6),
    ];
    let tables = Tables::of(&tenant).await;
    let mut ids = Vec::new();
    for (index, by, day) in plan {
        let request = UseQuickReplyRequest {
            actor: by.and_then(user),
            ..new_use(&tenant, &made[index])
        };
        let used = try_use(&tenant, request).await.unwrap();
        let then = format!(
            "UPDATE {}.inbox_quick_reply_uses SET used_at = '2026-03-0{day} 12:00Z' WHERE id = '{}'",
            tables.schema, used.use_id
        );
        tables.admin.batch_execute(&then).await.unwrap();
        ids.push(used.use_id);
    }
    let listed = async |quick_reply: Option<&QuickReply>, by: &str| {
        let request = ListQuickReplyUsesRequest {
            quick_reply_id: quick_reply.map(|one| one.id.clone()).unwrap_or_default(),
            user_id: by.to_owned(),
            ..Default::default()
        };
        let found = uses(&tenant, request).await.into_iter();
        let place = |one: QuickReplyUse| ids.iter().position(|id| *id == one.id).unwrap();
        found.map(place).collect::<Vec<_>>()
    };
    assert_eq!(listed(None, "").await, [5, 4, 3, 2, 1, 0]);
    assert_eq!(listed(Some(&made[1]), "").await, [4, 2, 1]);
    assert_eq!(listed(None, "ann").await, [5, 1, 0]);
    assert_eq!(listed(Some(&made[1]), "bob").await, [4, 2]);
    assert_eq!(listed(Some(&made[0]), "bob").await, Vec::<usize>::new());

    let day = |day: i64| Timestamp {
        seconds: 1_772_323_200 + (day - 1) * 86_400,
        nanos: 0,
    };
    let counted = async |from: Option<i64>, to: Option<i64>, by: &str| {
        let request = GetQuickReplyStatsRequest {
            start_time: from.map(day),
            end_time: to.map(day),
            user_id: by.to_owned(),
            ..Default::default()
        };
        let counted = stats(&tenant, request).await.into_iter();
        let text = counted.map(|(shortcut, uses)| format!("{shortcut}{uses}"));
        text.collect::<Vec<_>>().join(" ")
    };
    assert_eq!(counted(None, None, "").await, "b3 c2 a1");
    assert_eq!(counted(None, None, "ann").await, "c1 b1 a1");
    assert_eq!(counted(Some(3), Some(6), "").await, "b2 c1");
    assert_eq!(counted(None, Some(2), "").await, "a1");
    assert_eq!(counted(Some(7), None, "").await, "");
    // What is deleted was used all the same.
    delete(&tenant, deletion(&tenant, &made[1])).await.unwrap();
    assert_eq!(counted(Some(5), None, "bob").await, "b1");
    assert_eq!(listed(Some(&made[1]), "ann").await, [1]);
    let backwards = GetQuickReplyStatsRequest {
        tenant: tenant.slug(),
        start_time: Some(day(2)),
        end_time: Some(day(1)),
        ..Default::default()
    };
    let refused = tenant
        .quick_replies
        .clone()
        .get_quick_reply_stats(backwards)
        .await;
    assert_eq!(refusal(refused).2, ["end_time"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn quick_replies_are_searched_filtered_ordered_and_paged() {
    let (_server, tenant) = tenant().await;
    let make = async |shortcut: &str, title: &str, text: &str, team: &str, language: &str| {
        let request = CreateQuickReplyRequest {
            title: title.to_owned(),
            team_id: team.to_owned(),
            language: language.to_owned(),
            ..new(&tenant, shortcut, text)
        };
        create(&tenant, request).await
    };
    let b = make("B-greet", "zum Gruß", "Guten TAG", "", "de").await;
    make("a-bye", "Пока", "До свидания, друг", "", "ru").await;
    let d = make("d-price", "Preis", "你好世界", "sales", "zh-Hant").await;
    make("C-None", "apology", "100% sorry_ \\ 'x'", "support", "").await;
    make("é-accent", "Ärger", "ΟΔΟΣ", "", "el").await;
    let find = async |change: fn(&mut ListQuickRepliesRequest)| {
        let mut request = all(&tenant);
        change(&mut request);
        let found = list(&tenant, request).await;
        let found = shortcuts(&found);
        found
            .iter()
            .map(|one| one[..1].to_owned())
            .collect::<String>()
    };
    // `é` is two bytes, which the letters above cut: it comes last in any order by code points.
    let last = create(&tenant, new(&tenant, "f-last", "x")).await;
    delete(&tenant, deletion(&tenant, &last)).await.unwrap();
    let accent = list(&tenant, all(&tenant)).await;
    assert_eq!(
        shortcuts(&accent),
        ["a-bye", "B-greet", "C-None", "d-price", "é-accent"]
    );
    let renamed = UpdateQuickReplyRequest {
        shortcut: Some("e-accent".to_owned()),
        ..edit(&tenant, &accent[4])
    };
    update(&tenant, renamed).await.unwrap();
    assert_eq!(find(|all| all.show_deleted = true).await, "aBCdef");
    assert_eq!(find(|all| all.order_by = "title".to_owned()).await, "CdBea");
    assert_eq!(
        find(|all| all.scope = QuickReplyScope::Tenant.into()).await,
        "aBe"
    );
    assert_eq!(
        find(|all| all.scope = QuickReplyScope::Team.into()).await,
        "Cd"
    );
    assert_eq!(find(|all| all.team_id = "sales".to_owned()).await, "d");
    assert_eq!(
        find(|all| all.language = "zh-hant-TW".to_owned()).await,
        "d"
    );
    assert_eq!(find(|all| all.language = "zh".to_owned()).await, "");
    assert_eq!(find(|all| all.language = "de-CH".to_owned()).await, "B");
    assert_eq!(find(|all| all.query = "tag GRUSS".to_owned()).await, "B");
    assert_eq!(find(|all| all.query = "ДРУГ".to_owned()).await, "a");
    assert_eq!(find(|all| all.query = "好世".to_owned()).await, "d");
    assert_eq!(find(|all| all.query = "οδος".to_owned()).await, "e");
    assert_eq!(find(|all| all.query = "NONE".to_owned()).await, "C");
    assert_eq!(find(|all| all.query = "% _ \\ '".to_owned()).await, "C");
    assert_eq!(find(|all| all.query = "%".to_owned()).await, "C");
    assert_eq!(find(|all| all.query = "gruß друг".to_owned()).await, "");
    assert_eq!(find(|all| all.query = "  ".to_owned()).await, "aBCde");

    for (quick_reply, times) in [(&d, 3), (&b, 1)] {
        for _ in 0..times {
            try_use(&tenant, new_use(&tenant, quick_reply))
                .await
                .unwrap();
        }
    }
    assert_eq!(
        find(|all| all.order_by = "usage_count desc".to_owned()).await,
        "dBeCa"
    );

    let page = async |request: ListQuickRepliesRequest| {
        tenant
            .quick_replies
            .clone()
            .list_quick_replies(request)
            .await
    };
    let first = ListQuickRepliesRequest {
        page_size: 2,
        ..all(&tenant)
    };
    let token = page(first.clone())
        .await
        .unwrap()
        .into_inner()
        .next_page_token;
    let with_token = ListQuickRepliesRequest {
        page_token: token,
        ..first
    };
    let next = page(with_token.clone()).await.unwrap().into_inner();
    assert_eq!(shortcuts(&next.quick_replies), ["C-None", "d-price"]);
    for other in [
        ListQuickRepliesRequest {
            order_by: "title".to_owned(),
            ..with_token.clone()
        },
        ListQuickRepliesRequest {
            actor: user("ann"),
            ..with_token.clone()
        },
        ListQuickRepliesRequest {
            show_deleted: true,
            ..with_token
        },
    ] {
        let refused = is(Code::InvalidArgument, "INVALID_PAGE_TOKEN");
        assert_eq!(why(page(other).await), refused);
    }
    let odd = ListQuickRepliesRequest {
        order_by: "text".to_owned(),
        scope: QuickReplyScope::Tenant.into(),
        team_id: "sales".to_owned(),
        language: "?".to_owned(),
        ..all(&tenant)
    };
    assert_eq!(
        refusal(page(odd).await).2,
        ["team_id", "order_by", "language"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_needs_the_current_etag_and_a_use_does_not_spoil_it() {
    let (_server, tenant) = tenant().await;
    let request = CreateQuickReplyRequest {
        title: "Greeting".to_owned(),
        variants: vec![variant("de", "Hallo")],
        ..new(&tenant, "hi", "Hello")
    };
    let made = create(&tenant, request).await;
    let clash = UpdateQuickReplyRequest {
        language: Some("DE".to_owned()),
        ..edit(&tenant, &made)
    };
    let refused = Refusal::of(&update(&tenant, clash).await.unwrap_err());
    assert_eq!(refused.fields.into_keys().collect::<Vec<_>>(), ["language"]);
    try_use(&tenant, new_use(&tenant, &made)).await.unwrap();
    let mut changed = edit(&tenant, &made);
    changed.etag = made.etag.clone();
    changed.text = Some("Hello again".to_owned());
    let edited = update(&tenant, changed.clone()).await.unwrap();
    assert_eq!(
        (edited.text.as_str(), edited.title.as_str()),
        ("Hello again", "Greeting")
    );
    assert_eq!((edited.usage_count, edited.version), (1, 3));
    assert_ne!(edited.etag, made.etag);
    let stale = is(Code::Aborted, "ETAG_MISMATCH");
    assert_eq!(why(update(&tenant, changed.clone()).await), stale);

    changed.etag = String::new();
    let masked = |paths: &[&str]| {
        Some(FieldMask {
            paths: paths.iter().map(|path| (*path).to_owned()).collect(),
        })
    };
    changed.update_mask = masked(&["title", "variants"]);
    let cleared = update(&tenant, changed.clone()).await.unwrap();
    assert_eq!((cleared.title.as_str(), cleared.variants.len()), ("", 0));
    assert_eq!(cleared.text, "Hello again");
    // Nothing named and nothing set changes nothing.
    let unchanged = update(&tenant, edit(&tenant, &made)).await.unwrap();
    assert_eq!(unchanged, cleared);
    changed.text = None;
    for (paths, fields) in [
        (&["text"][..], &["text"][..]),
        (&["*"], &["shortcut", "text"]),
        (&["usage_count"], &["update_mask"]),
        (&["team_id"], &["update_mask"]),
    ] {
        changed.update_mask = masked(paths);
        let refused = tenant
            .quick_replies
            .clone()
            .update_quick_reply(changed.clone())
            .await;
        assert_eq!(refusal(refused).2, fields, "{paths:?}");
    }
    // Edits at once: with the same etag, one of them.
    let calls = (0..16).map(|number| {
        let tenant = tenant.clone();
        let request = UpdateQuickReplyRequest {
            etag: cleared.etag.clone(),
            title: Some(format!("Title {number}")),
            ..edit(&tenant, &cleared)
        };
        tokio::spawn(async move { update(&tenant, request).await })
    });
    let mut edits = 0;
    for call in calls.collect::<Vec<_>>() {
        match call.await.unwrap() {
            Ok(_) => edits += 1,
            refused => assert_eq!(why(refused), stale),
        }
    }
    assert_eq!(edits, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_deleted_can_come_back_while_its_shortcut_is_free() {
    let (_server, tenant) = tenant().await;
    let made = create(&tenant, new(&tenant, "hi", "Hello")).await;
    let live = is(Code::AlreadyExists, "QUICK_REPLY_LIVE");
    let missing = is(Code::NotFound, "RESOURCE_NOT_FOUND");
    let stale = is(Code::Aborted, "ETAG_MISMATCH");
    let back = undeletion(&tenant, &made);
    assert_eq!(why(undelete(&tenant, back.clone()).await), live);
    let mut gone = deletion(&tenant, &made);
    gone.etag = "\"7\"".to_owned();
    assert_eq!(why(delete(&tenant, gone.clone()).await), stale);
    gone.etag = made.etag.clone();
    gone.validate_only = true;
    assert_eq!(
        delete(&tenant, gone.clone()).await.unwrap(),
        Some(made.clone())
    );
    gone.validate_only = false;
    let deleted = delete(&tenant, gone.clone()).await.unwrap().unwrap();
    assert!(deleted.delete_time.is_some());
    assert_eq!(deleted.version, 2);

    gone.etag = String::new();
    assert_eq!(why(delete(&tenant, gone.clone()).await), missing);
    gone.allow_missing = true;
    assert_eq!(delete(&tenant, gone).await.unwrap(), None);
    assert_eq!(get(&tenant, &made.id, None).await.unwrap(), deleted);
    assert_eq!(list(&tenant, all(&tenant)).await, []);
    let mut changed = edit(&tenant, &made);
    changed.title = Some("x".to_owned());
    assert_eq!(why(update(&tenant, changed).await), missing);

    let other = create(&tenant, new(&tenant, "HI", "Other")).await;
    let taken = is(Code::AlreadyExists, "QUICK_REPLY_SHORTCUT_TAKEN");
    let check = UndeleteQuickReplyRequest {
        validate_only: true,
        ..back.clone()
    };
    assert_eq!(why(undelete(&tenant, back.clone()).await), taken);
    assert_eq!(why(undelete(&tenant, check.clone()).await), taken);
    delete(&tenant, deletion(&tenant, &other)).await.unwrap();
    assert_eq!(undelete(&tenant, check.clone()).await.unwrap(), deleted);
    let old = UndeleteQuickReplyRequest {
        etag: made.etag.clone(),
        ..back.clone()
    };
    assert_eq!(why(undelete(&tenant, old).await), stale);
    let again = undelete(&tenant, back).await.unwrap();
    assert_eq!((again.delete_time, again.version), (None, 3));
    assert_eq!(list(&tenant, all(&tenant)).await, [again]);

    let tables = Tables::of(&tenant).await;
    let kinds = format!(
        "SELECT string_agg(kind, ' ' ORDER BY id) FROM {}.events WHERE resource_id = '{}'",
        tables.schema, made.id
    );
    let kinds: String = tables.admin.query_one(&kinds, &[]).await.unwrap().get(0);
    assert_eq!(
        kinds,
        "quick_reply.created quick_reply.deleted quick_reply.undeleted"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn each_list_walks_an_index_of_its_own() {
    let (_server, tenant) = tenant().await;
    let tables = Tables::of(&tenant).await;
    let schema = &tables.schema;
    let fill = format!(
        "INSERT INTO {schema}.inbox_quick_replies (id, user_id, shortcut, shortcut_key, title,
            title_key, text, metadata, usage_count, created_at, updated_at)
         SELECT gen_random_uuid(), CASE WHEN n % 2 = 0 THEN '' ELSE 'user-' || n % 100 END, 's' || n,
            's' || n, 't' || n, 't' || n, 'x', '{{}}', n, now(), now()
         FROM generate_series(1, 20000) n;
         INSERT INTO {schema}.inbox_quick_reply_uses (id, quick_reply_id, language, actor_kind,
            actor_id, caller, correlation_id, used_at)
         SELECT gen_random_uuid(), q.id, '', 'user', 'user-' || q.usage_count % 1000, 'test', 'test',
            now() - q.usage_count * interval '1 minute'
         FROM {schema}.inbox_quick_replies q;
         ANALYZE {schema}.inbox_quick_replies, {schema}.inbox_quick_reply_uses"
    );
    tables.admin.batch_execute(&fill).await.unwrap();
    let one = list_first(&tenant, "").await;
    let read = format!(
        "SELECT sum(seq_tup_read)::bigint FROM pg_stat_user_tables
         WHERE schemaname = '{schema}' AND relname LIKE 'inbox_quick%'"
    );

    let mut indexes = Vec::new();
    for (order, index) in [
        ("shortcut", "inbox_quick_replies_shortcut_idx"),
        ("title", "inbox_quick_replies_title_idx"),
        ("usage_count desc", "inbox_quick_replies_usage_count_idx"),
    ] {
        list_first(&tenant, order).await;
        indexes.push(index);
    }
    for (quick_reply_id, user_id, index) in [
        ("", "", "inbox_quick_reply_uses_used_at_idx"),
        (&one.id, "", "inbox_quick_reply_uses_quick_reply_id_idx"),
        ("", "user-7", "inbox_quick_reply_uses_user_idx"),
    ] {
        let request = ListQuickReplyUsesRequest {
            tenant: tenant.slug(),
            quick_reply_id: quick_reply_id.to_owned(),
            user_id: user_id.to_owned(),
            ..Default::default()
        };
        let mut client = tenant.quick_replies.clone();
        client.list_quick_reply_uses(request).await.unwrap();
        indexes.push(index);
    }
    let walked = format!(
        "SELECT count(*) FROM pg_stat_user_indexes
         WHERE schemaname = '{schema}' AND idx_scan > 0 AND indexrelname = ANY ('{{{}}}')",
        indexes.join(",")
    );
    eventually("every index was walked", async || {
        // PostgreSQL counts when a statement comes after a while.
        list_first(&tenant, "title").await;
        tables.count(&walked).await == 6
    })
    .await;
    // The filling itself read the quick replies once, from the first to the last.
    assert!(tables.count(&read).await <= 20_000);
}

async fn list_first(tenant: &TestTenant, order_by: &str) -> QuickReply {
    let request = ListQuickRepliesRequest {
        actor: user("user-7"),
        order_by: order_by.to_owned(),
        page_size: 1,
        ..all(tenant)
    };
    let answer = tenant
        .quick_replies
        .clone()
        .list_quick_replies(request)
        .await;
    let mut page = answer.unwrap().into_inner();
    page.quick_replies.remove(0)
}
