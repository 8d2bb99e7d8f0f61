//! People: met, described, found, merged, exported, erased.

use std::collections::BTreeSet;
use std::time::Duration;

use communication_service::pb::export_contact_response::Item;
use communication_service::pb::{
    AddContactIdentityRequest, Channel, Contact, ContactErasure, ContactIdentityKind, ContactMerge,
    Conversation, CreateContactRequest, EraseContactRequest, ExportContactRequest,
    GetContactRequest, GetConversationRequest, GetConversationStatsRequest,
    GetMessageVolumeRequest, ListContactMergesRequest, ListContactsRequest,
    ListConversationsRequest, ListQuarantinedItemsRequest, MergeContactsRequest, MessageType,
    NewContactIdentity, RemoveContactIdentityRequest, UndoContactMergeRequest,
    UpdateContactRequest, UpdateConversationRequest,
};
use prost_types::FieldMask;
use tonic::{Code, Request, Response, Status};

use crate::harness::{
    Refusal, Tables, TestServer, TestTenant, Whatsapp, admin, eventually, refusal, sample, tenant,
    unsupported, user,
};

fn address(value: &str) -> NewContactIdentity {
    NewContactIdentity {
        channel: Channel::Email.into(),
        value: value.to_owned(),
        ..Default::default()
    }
}

async fn create(tenant: &TestTenant, name: &str, addresses: &[&str]) -> Contact {
    let request = CreateContactRequest {
        tenant: tenant.slug(),
        name: name.to_owned(),
        identities: addresses.iter().map(|value| address(value)).collect(),
        ..Default::default()
    };
    let made = tenant.inbox.clone().create_contact(request).await.unwrap();
    made.into_inner().contact.unwrap()
}

async fn find(tenant: &TestTenant, id: &str) -> Result<Response<Contact>, Status> {
    let request = GetContactRequest {
        tenant: tenant.slug(),
        contact_id: id.to_owned(),
    };
    let answer = tenant.inbox.clone().get_contact(request).await?;
    Ok(Response::new(answer.into_inner().contact.unwrap()))
}

async fn get(tenant: &TestTenant, id: &str) -> Contact {
    find(tenant, id).await.unwrap().into_inner()
}

fn edit(tenant: &TestTenant, contact: &Contact) -> UpdateContactRequest {
    UpdateContactRequest {
        tenant: tenant.slug(),
        contact_id: contact.id.clone(),
        ..Default::default()
    }
}

async fn update(
    tenant: &TestTenant,
    request: UpdateContactRequest,
) -> Result<Response<Contact>, Status> {
    let answer = tenant.inbox.clone().update_contact(request).await?;
    Ok(Response::new(answer.into_inner().contact.unwrap()))
}

fn merging(tenant: &TestTenant, source: &Contact, target: &Contact) -> MergeContactsRequest {
    MergeContactsRequest {
        tenant: tenant.slug(),
        source_contact_id: source.id.clone(),
        target_contact_id: target.id.clone(),
        ..Default::default()
    }
}

async fn merge(tenant: &TestTenant, source: &Contact, target: &Contact) -> (Contact, ContactMerge) {
    let request = merging(tenant, source, target);
    let merged = tenant.inbox.clone().merge_contacts(request).await.unwrap();
    let merged = merged.into_inner();
    (merged.contact.unwrap(), merged.merge.unwrap())
}

fn undoing(tenant: &TestTenant, merge: &ContactMerge) -> UndoContactMergeRequest {
    UndoContactMergeRequest {
        tenant: tenant.slug(),
        contact_merge_id: merge.id.clone(),
        ..Default::default()
    }
}

async fn undo(tenant: &TestTenant, merge: &ContactMerge) -> (Contact, Contact, ContactMerge) {
    let request = undoing(tenant, merge);
    let undone = tenant.inbox.clone().undo_contact_merge(request).await;
    let undone = undone.unwrap().into_inner();
    (
        undone.source.unwrap(),
        undone.target.unwrap(),
        undone.merge.unwrap(),
    )
}

/// The names of the contacts of a list, page by page.
async fn names(tenant: &TestTenant, change: impl FnOnce(&mut ListContactsRequest)) -> Vec<String> {
    let mut request = ListContactsRequest {
        tenant: tenant.slug(),
        page_size: 2,
        ..Default::default()
    };
    change(&mut request);
    let mut names = Vec::new();
    loop {
        let page = tenant.inbox.clone().list_contacts(request.clone()).await;
        let page = page.unwrap().into_inner();
        assert!(page.contacts.len() <= 2);
        names.extend(page.contacts.into_iter().map(|contact| contact.name));
        if page.next_page_token.is_empty() {
            return names;
        }
        request.page_token = page.next_page_token;
    }
}

fn values(contact: &Contact) -> Vec<&str> {
    let values = contact.identities.iter();
    values.map(|identity| identity.value.as_str()).collect()
}

/// Makes the conversation of somebody who writes by e-mail.
async fn mail(tenant: &TestTenant, from: &str, name: &str, text: &str) -> Conversation {
    let mut request = tenant.new_conversation();
    request.channel = Channel::Email.into();
    request.contact_identifier = from.to_owned();
    request.contact_name = name.to_owned();
    request.first_message = text.to_owned();
    tenant.create(request).await
}

async fn events(tenant: &TestTenant, kind: &str) -> i64 {
    let query = format!("SELECT count(*) FROM {{schema}}.events WHERE kind = '{kind}'");
    Tables::of(tenant).await.count(&query).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_contact_is_made_read_edited_and_found_by_its_etag() {
    let (_server, tenant) = tenant().await;
    let request = CreateContactRequest {
        tenant: tenant.slug(),
        request_id: "request-1".to_owned(),
        name: "Jane Roe".to_owned(),
        company: "Roe & Sons".to_owned(),
        language: "pt-BR".to_owned(),
        notes: "Prefers mornings".to_owned(),
        identities: vec![
            address("jane@example.com"),
            NewContactIdentity {
                channel: Channel::Whatsapp.into(),
                value: "+4930123456".to_owned(),
                ..Default::default()
            },
        ],
        ..Default::default()
    };
    let made = tenant.inbox.clone().create_contact(request.clone()).await;
    let made = made.unwrap().into_inner().contact.unwrap();
    let kinds: Vec<_> = made.identities.iter().map(|i| i.kind()).collect();
    let both = [ContactIdentityKind::Email, ContactIdentityKind::Phone];
    assert_eq!(kinds, both);
    assert_eq!(get(&tenant, &made.id).await, made);
    let again = tenant.inbox.clone().create_contact(request.clone()).await;
    assert_eq!(again.unwrap().into_inner().contact.unwrap(), made);
    let mut other = request;
    other.name = "Somebody else".to_owned();
    let (code, reason, _) = refusal(tenant.inbox.clone().create_contact(other).await);
    let reused = (Code::AlreadyExists, "REQUEST_ID_REUSED");
    assert_eq!((code, reason.as_str()), reused);

    let mut request = edit(&tenant, &made);
    request.etag = made.etag.clone();
    request.name = Some("Jane Doe".to_owned());
    let edited = update(&tenant, request.clone()).await.unwrap().into_inner();
    assert_eq!(edited.name, "Jane Doe");
    assert_eq!(edited.company, "Roe & Sons");
    assert_eq!(edited.version, made.version + 1);
    let (code, reason, _) = refusal(update(&tenant, request.clone()).await);
    assert_eq!((code, reason.as_str()), (Code::Aborted, "ETAG_MISMATCH"));
    request.etag = edited.etag.clone();
    request.name = None;
    request.update_mask = Some(FieldMask {
        paths: vec!["company".to_owned(), "notes".to_owned()],
    });
    let cleared = update(&tenant, request.clone()).await.unwrap().into_inner();
    assert_eq!((cleared.company.as_str(), cleared.notes.as_str()), ("", ""));
    assert_eq!(cleared.name, "Jane Doe");
    request.update_mask = Some(FieldMask {
        paths: vec!["identities".to_owned()],
    });
    let (_, _, fields) = refusal(update(&tenant, request.clone()).await);
    assert_eq!(fields, ["update_mask"]);
    request.update_mask = None;
    request.language = Some("not a tag".to_owned());
    let (_, _, fields) = refusal(update(&tenant, request).await);
    assert_eq!(fields, ["language"]);
    assert_eq!(events(&tenant, "contact.created").await, 1);
    assert_eq!(events(&tenant, "contact.updated").await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rename_shows_in_all_conversations_of_the_person() {
    let (_server, tenant) = tenant().await;
    let first = mail(&tenant, "jane@example.com", "jane", "Hello").await;
    let contact = get(&tenant, &first.contact_id).await;
    assert_eq!(contact.name, "jane");
    let mut request = edit(&tenant, &contact);
    request.name = Some("Jane Roe".to_owned());
    update(&tenant, request).await.unwrap();
    assert_eq!(tenant.get(&first).await.contact_name, "Jane Roe");
    // What the customer calls themselves does not take the place of what agents wrote.
    let again = mail(&tenant, "jane@example.com", "jane", "Hello?").await;
    assert_eq!(again.contact_name, "Jane Roe");
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_first_messages_of_a_person_at_once_make_one_contact() {
    let (_server, tenant) = tenant().await;
    let calls = (0..50).map(|number| {
        let tenant = tenant.clone();
        tokio::spawn(async move {
            mail(
                &tenant,
                "jane@example.com",
                "Jane",
                &format!("Hello {number}"),
            )
            .await
        })
    });
    let mut contacts = BTreeSet::new();
    for call in calls.collect::<Vec<_>>() {
        contacts.insert(call.await.unwrap().contact_id);
    }
    assert_eq!(contacts.len(), 1);
    assert_eq!(names(&tenant, |_| {}).await, ["Jane"]);
    assert_eq!(events(&tenant, "contact.created").await, 1);
    let contact = get(&tenant, contacts.first().unwrap()).await;
    assert_eq!(values(&contact), ["jane@example.com"]);
    assert_eq!(
        names(&tenant, |r| r.query = "JANE exa".to_owned())
            .await
            .len(),
        1
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_identity_is_one_persons_and_stays_while_conversations_hang_on_it() {
    let (_server, tenant) = tenant().await;
    let conversation = mail(&tenant, "jane@example.com", "Jane", "Hello").await;
    let jane = get(&tenant, &conversation.contact_id).await;
    let john = create(&tenant, "John", &["john@example.net"]).await;
    let mut inbox = tenant.inbox.clone();

    let taken = CreateContactRequest {
        tenant: tenant.slug(),
        name: "Nobody".to_owned(),
        identities: vec![address("new@example.com"), address("jane@example.com")],
        ..Default::default()
    };
    let status = inbox.create_contact(taken).await.unwrap_err();
    let refused = Refusal::of(&status);
    assert_eq!(
        refused.why(),
        (Code::AlreadyExists, "CONTACT_IDENTITY_TAKEN")
    );
    assert_eq!(refused.metadata["contact_id"], jane.id);
    assert_eq!(names(&tenant, |_| {}).await, ["Jane", "John"]);

    let add = |value: &str, etag: &str| AddContactIdentityRequest {
        tenant: tenant.slug(),
        contact_id: john.id.clone(),
        etag: etag.to_owned(),
        identity: Some(address(value)),
        ..Default::default()
    };
    let (code, reason, _) = refusal(
        inbox
            .add_contact_identity(add("jane@example.com", ""))
            .await,
    );
    let taken = (Code::AlreadyExists, "CONTACT_IDENTITY_TAKEN");
    assert_eq!((code, reason.as_str()), taken);
    let added = inbox
        .add_contact_identity(add("j@example.com", &john.etag))
        .await;
    let added = added.unwrap().into_inner().contact.unwrap();
    assert_eq!(values(&added), ["john@example.net", "j@example.com"]);
    let again = inbox.add_contact_identity(add("j@example.com", "")).await;
    assert_eq!(again.unwrap().into_inner().contact.unwrap(), added);
    let (_, reason, _) = refusal(
        inbox
            .add_contact_identity(add("k@example.com", &john.etag))
            .await,
    );
    assert_eq!(reason, "ETAG_MISMATCH");
    let mut bad = add("not an address", "");
    bad.identity.as_mut().unwrap().kind = ContactIdentityKind::Email.into();
    let (_, _, fields) = refusal(inbox.add_contact_identity(bad).await);
    assert_eq!(fields, ["identity.value"]);
    // Who writes by it is John.
    let mailed = mail(&tenant, "j@example.com", "", "Hi").await;
    assert_eq!(mailed.contact_id, john.id);

    let remove = |contact: &Contact, identity: &str| RemoveContactIdentityRequest {
        tenant: tenant.slug(),
        contact_id: contact.id.clone(),
        contact_identity_id: identity.to_owned(),
        ..Default::default()
    };
    let unused = &added.identities[0].id;
    let (code, reason, _) = refusal(
        inbox
            .remove_contact_identity(remove(&jane, &jane.identities[0].id))
            .await,
    );
    let in_use = (Code::FailedPrecondition, "CONTACT_IDENTITY_IN_USE");
    assert_eq!((code, reason.as_str()), in_use);
    let (code, ..) = refusal(inbox.remove_contact_identity(remove(&jane, unused)).await);
    assert_eq!(code, Code::NotFound);
    let left = inbox.remove_contact_identity(remove(&john, unused)).await;
    let left = left.unwrap().into_inner().contact.unwrap();
    assert_eq!(values(&left), ["j@example.com"]);
    assert!(
        names(&tenant, |r| r.query = "example.net".to_owned())
            .await
            .is_empty()
    );
    let (code, ..) = refusal(inbox.remove_contact_identity(remove(&john, unused)).await);
    assert_eq!(code, Code::NotFound);
    let mut missing = remove(&john, unused);
    missing.allow_missing = true;
    let same = inbox.remove_contact_identity(missing).await.unwrap();
    assert_eq!(same.into_inner().contact.unwrap(), left);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_identities_are_enough() {
    let (_server, tenant) = tenant().await;
    let jane = create(&tenant, "Jane", &[]).await;
    for number in 0..=100 {
        let request = AddContactIdentityRequest {
            tenant: tenant.slug(),
            contact_id: jane.id.clone(),
            identity: Some(address(&format!("jane{number}@example.com"))),
            ..Default::default()
        };
        let added = tenant.inbox.clone().add_contact_identity(request).await;
        if number == 100 {
            let (code, reason, _) = refusal(added);
            let limit = (Code::FailedPrecondition, "CONTACT_IDENTITY_LIMIT");
            assert_eq!((code, reason.as_str()), limit);
        } else {
            added.unwrap();
        }
    }
    let john = create(&tenant, "John", &["john@example.com"]).await;
    let both = tenant
        .inbox
        .clone()
        .merge_contacts(merging(&tenant, &john, &jane))
        .await;
    assert_eq!(refusal(both).1, "CONTACT_IDENTITY_LIMIT");
}

#[tokio::test(flavor = "multi_thread")]
async fn contacts_are_found_by_words_and_listed_in_every_order() {
    let (_server, tenant) = tenant().await;
    for (name, address) in [
        ("Łukasz Ärger", "lukasz@example.com"),
        ("anna Schmidt", "anna@example.org"),
        ("Zoë", "zoe@example.com"),
        ("王小明", "wang@example.com"),
        ("Bob Schmidt", "bob@example.com"),
    ] {
        create(&tenant, name, &[address]).await;
    }
    let phone = tenant.conversation().await;
    let ordered = [
        "",
        "anna Schmidt",
        "Bob Schmidt",
        "Zoë",
        "Łukasz Ärger",
        "王小明",
    ];
    assert_eq!(names(&tenant, |_| {}).await, ordered);
    let made = [
        "Łukasz Ärger",
        "anna Schmidt",
        "Zoë",
        "王小明",
        "Bob Schmidt",
        "",
    ];
    let order = |order: &'static str| move |r: &mut ListContactsRequest| r.order_by = order.into();
    assert_eq!(names(&tenant, order("create_time")).await, made);
    let mut newest = made;
    newest.reverse();
    assert_eq!(names(&tenant, order("create_time desc")).await, newest);
    assert_eq!(names(&tenant, order("update_time desc")).await, newest);

    for (query, found) in [
        ("ÄR", vec!["Łukasz Ärger"]),
        ("schm", vec!["anna Schmidt", "Bob Schmidt"]),
        ("SCHMIDT b", vec!["Bob Schmidt"]),
        ("example.org", vec!["anna Schmidt"]),
        ("zoe@example.com", vec!["Zoë"]),
        ("王", vec!["王小明"]),
        ("chmidt", vec![]),
        ("%", vec![]),
    ] {
        let query = query.to_owned();
        if query == "%" {
            let request = ListContactsRequest {
                tenant: tenant.slug(),
                query,
                ..Default::default()
            };
            let (_, _, fields) = refusal(tenant.inbox.clone().list_contacts(request).await);
            assert_eq!(fields, ["query"]);
            continue;
        }
        assert_eq!(
            names(&tenant, |r| r.query = query.clone()).await,
            found,
            "{query}"
        );
    }
    let spaced = phone.contact_identifier.replacen('+', "+ ", 1);
    let spaced = spaced[..spaced.len() - 2].to_owned();
    assert_eq!(names(&tenant, |r| r.query = spaced).await, [""]);
    let account = phone.channel_account_id.clone();
    assert_eq!(
        names(&tenant, |r| r.channel_account_id = account).await,
        [""]
    );
    let since = get(&tenant, &phone.contact_id).await.update_time;
    assert_eq!(names(&tenant, |r| r.updated_since_time = since).await, [""]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_merge_moves_everything_and_its_undoing_moves_it_back() {
    let (_server, tenant) = tenant().await;
    let by_mail = mail(&tenant, "jane@example.com", "Jane Roe", "Hello").await;
    let by_phone = tenant.conversation().await;
    tenant.receive(&by_phone, "It is me").await;
    let source = get(&tenant, &by_mail.contact_id).await;
    let target = get(&tenant, &by_phone.contact_id).await;

    let mut stale = merging(&tenant, &source, &target);
    stale.etag = "\"0\"".to_owned();
    let (_, reason, _) = refusal(tenant.inbox.clone().merge_contacts(stale).await);
    assert_eq!(reason, "ETAG_MISMATCH");
    let mut request = merging(&tenant, &source, &target);
    request.etag = target.etag.clone();
    request.request_id = "merge-1".to_owned();
    let merged = tenant.inbox.clone().merge_contacts(request.clone()).await;
    let merged = merged.unwrap().into_inner();
    let again = tenant.inbox.clone().merge_contacts(request).await.unwrap();
    assert_eq!(again.into_inner(), merged);
    let (one, done) = (merged.contact.unwrap(), merged.merge.unwrap());
    assert_eq!((one.name.as_str(), one.identities.len()), ("Jane Roe", 2));
    assert_eq!(done.contact_identity_ids, [source.identities[0].id.clone()]);
    assert_eq!(merge(&tenant, &source, &target).await.1, done);
    for conversation in [&by_mail, &by_phone] {
        let conversation = tenant.get(conversation).await;
        assert_eq!(conversation.contact_id, target.id);
        assert_eq!(conversation.contact_name, "Jane Roe");
    }
    // What is written by the moved identity reaches the target.
    let more = mail(&tenant, "jane@example.com", "", "Anybody there?").await;
    assert_eq!((&more.id, &more.contact_id), (&by_mail.id, &target.id));
    let gone = get(&tenant, &source.id).await;
    assert_eq!(gone.merged_into_id, target.id);
    assert!(gone.merge_time.is_some() && gone.identities.is_empty());
    let mut request = edit(&tenant, &source);
    request.name = Some("J.".to_owned());
    let status = update(&tenant, request).await.unwrap_err();
    let refused = Refusal::of(&status);
    assert_eq!(refused.why(), (Code::FailedPrecondition, "CONTACT_MERGED"));
    assert_eq!(refused.metadata["merged_into_id"], target.id);
    assert_eq!(names(&tenant, |_| {}).await, ["Jane Roe"]);
    assert_eq!(names(&tenant, |r| r.show_merged = true).await.len(), 2);
    assert_eq!(
        names(&tenant, |r| r.query = "jane@example".to_owned())
            .await
            .len(),
        1
    );

    let (source, target, undone) = undo(&tenant, &done).await;
    assert!(undone.undo_time.is_some());
    assert_eq!(values(&source), ["jane@example.com"]);
    assert_eq!(
        (source.name.as_str(), source.merged_into_id.as_str()),
        ("Jane Roe", "")
    );
    assert_eq!((target.name.as_str(), target.identities.len()), ("", 1));
    assert_eq!(tenant.get(&by_mail).await.contact_id, source.id);
    assert_eq!(tenant.get(&by_phone).await.contact_id, target.id);
    assert_eq!(undo(&tenant, &done).await, (source, target, undone));
    assert_eq!(events(&tenant, "contact.merged").await, 1);
    assert_eq!(events(&tenant, "contact.unmerged").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn undoing_leaves_what_has_changed_since_and_goes_backwards() {
    let (_server, tenant) = tenant().await;
    let first = create(&tenant, "First", &["a@example.com", "a2@example.com"]).await;
    let second = create(&tenant, "", &["b@example.com"]).await;
    let third = create(&tenant, "Third", &["c@example.com"]).await;
    let (_, inner) = merge(&tenant, &first, &second).await;
    let mut request = edit(&tenant, &second);
    request.name = Some("Renamed".to_owned());
    update(&tenant, request).await.unwrap();
    let removal = RemoveContactIdentityRequest {
        tenant: tenant.slug(),
        contact_id: second.id.clone(),
        contact_identity_id: first.identities[1].id.clone(),
        ..Default::default()
    };
    tenant
        .inbox
        .clone()
        .remove_contact_identity(removal)
        .await
        .unwrap();
    let (all, outer) = merge(&tenant, &second, &third).await;
    assert_eq!(
        values(&all),
        ["a@example.com", "b@example.com", "c@example.com"]
    );

    let again = tenant
        .inbox
        .clone()
        .merge_contacts(merging(&tenant, &first, &third))
        .await;
    assert_eq!(refusal(again).1, "CONTACT_MERGED");
    let backwards = tenant
        .inbox
        .clone()
        .merge_contacts(merging(&tenant, &third, &second))
        .await;
    assert_eq!(refusal(backwards).1, "CONTACT_MERGED");
    let itself = tenant
        .inbox
        .clone()
        .merge_contacts(merging(&tenant, &third, &third))
        .await;
    assert_eq!(refusal(itself).2, ["target_contact_id"]);
    let early = tenant
        .inbox
        .clone()
        .undo_contact_merge(undoing(&tenant, &inner))
        .await;
    assert_eq!(refusal(early).1, "CONTACT_MERGED");

    let request = ListContactMergesRequest {
        tenant: tenant.slug(),
        contact_id: second.id.clone(),
        ..Default::default()
    };
    let list = tenant
        .inbox
        .clone()
        .list_contact_merges(request)
        .await
        .unwrap();
    let ids: Vec<_> = list.into_inner().merges.into_iter().map(|m| m.id).collect();
    assert_eq!(ids, [outer.id.clone(), inner.id.clone()]);

    let (second, third, _) = undo(&tenant, &outer).await;
    assert_eq!(values(&third), ["c@example.com"]);
    assert_eq!(values(&second), ["a@example.com", "b@example.com"]);
    let (first, second, _) = undo(&tenant, &inner).await;
    assert_eq!(values(&first), ["a@example.com"]);
    assert_eq!(
        (second.name.as_str(), values(&second)),
        ("Renamed", vec!["b@example.com"])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_come_during_merges_and_their_undoing_are_never_lost() {
    let (_server, tenant) = tenant().await;
    let conversation = mail(&tenant, "jane@example.com", "Jane", "Message 0").await;
    let jane = get(&tenant, &conversation.contact_id).await;
    let john = create(&tenant, "John", &["john@example.com"]).await;
    let writer = {
        let tenant = tenant.clone();
        tokio::spawn(async move {
            for number in 1..=60 {
                let text = format!("Message {number}");
                let mut request = tenant.new_conversation();
                request.channel = Channel::Email.into();
                request.contact_identifier = "jane@example.com".to_owned();
                request.first_message = text;
                let mut inbox = tenant.inbox.clone();
                while let Err(status) = inbox.create_conversation(request.clone()).await {
                    assert_eq!(status.code(), Code::Aborted, "{status:?}");
                }
            }
        })
    };
    for _ in 0..10 {
        let (_, done) = merge(&tenant, &jane, &john).await;
        undo(&tenant, &done).await;
    }
    writer.await.unwrap();
    assert_eq!(tenant.messages(&conversation).await.len(), 61);
    let (_, done) = merge(&tenant, &jane, &john).await;
    assert_eq!(done.contact_identity_ids.len(), 1);
    assert_eq!(names(&tenant, |_| {}).await, ["John"]);
}

/// What the export of a person has, as text, and how many pieces.
async fn export(tenant: &TestTenant, id: &str) -> (String, Vec<Item>) {
    let request = ExportContactRequest {
        tenant: tenant.slug(),
        contact_id: id.to_owned(),
    };
    let stream = tenant.inbox.clone().export_contact(request).await.unwrap();
    let mut stream = stream.into_inner();
    let mut items = Vec::new();
    while let Some(piece) = stream.message().await.unwrap() {
        items.push(piece.item.unwrap());
    }
    (format!("{items:?}"), items)
}

fn struct_of(key: &str, value: &str) -> Option<prost_types::Struct> {
    let value = prost_types::Value {
        kind: Some(prost_types::value::Kind::StringValue(value.to_owned())),
    };
    Some(prost_types::Struct {
        fields: [(key.to_owned(), value)].into(),
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_has_every_message_of_every_conversation_once() {
    let (_server, tenant) = tenant().await;
    let by_mail = mail(&tenant, "jane@example.com", "Jane", "Message 1").await;
    let by_phone = tenant.conversation().await;
    for number in 2..=230 {
        tenant.receive(&by_mail, &format!("Message {number}")).await;
    }
    tenant.receive(&by_phone, "Message 231").await;
    let others = mail(&tenant, "john@example.com", "John", "Not hers").await;
    let source = get(&tenant, &by_phone.contact_id).await;
    let target = get(&tenant, &by_mail.contact_id).await;
    merge(&tenant, &source, &target).await;
    let (text, items) = export(&tenant, &target.id).await;
    let messages: Vec<_> = items
        .iter()
        .filter_map(|item| match item {
            Item::Message(message) => Some(message.text.clone()),
            _ => None,
        })
        .collect();
    let all: Vec<_> = (1..=231)
        .map(|number| format!("Message {number}"))
        .collect();
    assert_eq!(messages, all);
    let count = |wanted: fn(&Item) -> bool| items.iter().filter(|item| wanted(item)).count();
    assert_eq!(count(|item| matches!(item, Item::Contact(_))), 2);
    assert_eq!(count(|item| matches!(item, Item::Merge(_))), 1);
    assert_eq!(count(|item| matches!(item, Item::Conversation(_))), 2);
    assert!(!text.contains(&others.id) && !text.contains("Not hers"));
    let request = ExportContactRequest {
        tenant: tenant.slug(),
        contact_id: source.id,
    };
    let refused = tenant.inbox.clone().export_contact(request).await;
    assert_eq!(Refusal::of(&refused.unwrap_err()).reason, "CONTACT_MERGED");
}

fn erasing(tenant: &TestTenant, id: &str) -> EraseContactRequest {
    EraseContactRequest {
        tenant: tenant.slug(),
        contact_id: id.to_owned(),
        ..Default::default()
    }
}

pub async fn erase(tenant: &TestTenant, id: &str) -> ContactErasure {
    let erased = tenant
        .inbox
        .clone()
        .erase_contact(erasing(tenant, id))
        .await;
    erased.unwrap().into_inner().erasure.unwrap()
}

/// Waits until all deliveries for an account are applied, and counts those that are kept.
async fn kept(account: &Whatsapp, tables: &Tables) -> i64 {
    let of_account = format!(
        "SELECT count(*) FROM directory.deliveries WHERE correlation_id = '{}'",
        account.number
    );
    let waiting = format!("{of_account} AND due_at IS NOT NULL");
    eventually("all deliveries are applied", async || {
        tables.count(&waiting).await == 0
    })
    .await;
    tables.count(&of_account).await
}

const DANA: &str = "+15550109911";

#[tokio::test(flavor = "multi_thread")]
async fn an_erased_person_is_nowhere_and_does_not_come_back() {
    let server = TestServer::start().await;
    let account = Whatsapp::connected(&server).await;
    let tenant = &account.tenant;
    let tables = Tables::of(tenant).await;
    // A message, what goes to quarantine, the same message again, a batch with others.
    account.post_sample(&server, "02_text.json").await;
    let poll = unsupported(&account.number);
    assert_eq!(account.post(&server, &poll).await, 200);
    for file in ["02_text.json", "08_location.json"] {
        account.post_sample(&server, file).await;
    }
    let others = String::from_utf8(unsupported(&account.number)).unwrap();
    let others = others.replace("15550109911", "15550100000");
    let others = others
        .replace("US.13499900112233445566", "US.1000000000000")
        .replace("Dana", "Olga");
    assert_eq!(account.post(&server, others.as_bytes()).await, 200);
    kept(&account, &tables).await;
    let by_phone = account.conversations().await.remove(0);
    assert_eq!(by_phone.contact_identifier, DANA);

    // What callers write of her, and of somebody else.
    let mut new = tenant.new_conversation();
    new.channel = Channel::Email.into();
    new.contact_identifier = "canary-address@example.com".to_owned();
    new.contact_name = "canary-name".to_owned();
    new.first_message = "canary-first".to_owned();
    new.subject = "canary-subject".to_owned();
    new.thread_key = "canary-thread".to_owned();
    new.metadata = struct_of("canary-key", "canary-value");
    new.request_id = "request-conversation".to_owned();
    let by_mail = tenant.create(new.clone()).await;
    let mut place = tenant.new_message(&by_mail, "canary-text");
    place.r#type = MessageType::Location.into();
    place.location = Some(communication_service::pb::Location {
        latitude: 12.345_678,
        longitude: 98.765_432,
        name: "canary-place".to_owned(),
        address: "canary-street".to_owned(),
    });
    place.metadata = struct_of("canary-message-key", "canary-message-value");
    place.request_id = "request-message".to_owned();
    let sent = tenant.send(place.clone()).await;
    assert_eq!(tenant.messages(&by_mail).await[1], sent);
    let source = get(tenant, &by_mail.contact_id).await;
    let mut request = edit(tenant, &source);
    request.notes = Some("canary-notes".to_owned());
    request.company = Some("canary-company".to_owned());
    request.language = Some("canary-language".to_owned());
    request.metadata = struct_of("canary-contact-key", "canary-contact-value");
    let source = update(tenant, request).await.unwrap().into_inner();
    let target = get(tenant, &by_phone.contact_id).await;
    let mut request = merging(tenant, &source, &target);
    request.request_id = "request-merge".to_owned();
    tenant.inbox.clone().merge_contacts(request).await.unwrap();
    let other = mail(tenant, "olga@example.com", "Olga", "Still here").await;

    let canaries = [
        "canary",
        "15550109911",
        "US.13499900112233445566",
        "Dana",
        "12.345678",
        "98.765",
        "café table",
    ];
    let (exported, _) = export(tenant, &target.id).await;
    let before = tables.dump(&tables.schema).await;
    for canary in canaries {
        assert!(exported.contains(canary), "the export lacks {canary}");
        assert!(before.contains(canary), "no table has {canary}");
    }
    for canary in [
        "address@",
        "name",
        "first",
        "subject",
        "thread",
        "key",
        "value",
        "text",
        "place",
        "street",
        "message-key",
        "message-value",
        "notes",
        "company",
        "language",
        "contact-value",
    ] {
        assert!(exported.contains(&format!("canary-{canary}")), "{canary}");
    }

    // Cut off in the middle: the messages are empty by then, the answers are not.
    let mut blocker = admin().await;
    let lock = blocker.transaction().await.unwrap();
    let locking = format!("LOCK TABLE {}.requests IN SHARE MODE", tables.schema);
    lock.batch_execute(&locking).await.unwrap();
    let mut short = Request::new(erasing(tenant, &target.id));
    short.set_timeout(Duration::from_secs(1));
    let cut_off = tenant.inbox.clone().erase_contact(short).await.unwrap_err();
    assert!(
        [Code::DeadlineExceeded, Code::Cancelled].contains(&cut_off.code()),
        "{cut_off:?}"
    );
    lock.rollback().await.unwrap();
    assert_eq!(refusal(find(tenant, &target.id).await).0, Code::NotFound);
    let half = "SELECT count(*) FROM {schema}.contact_erasures WHERE finished_at IS NULL";
    assert_eq!(tables.count(half).await, 1);
    assert!(tables.dump(&tables.schema).await.contains("canary"));

    let receipt = erase(tenant, &target.id).await;
    assert_eq!(erase(tenant, &target.id).await, receipt);
    assert!(receipt.finish_time.is_some());
    assert_eq!(receipt.contact_id, target.id);
    assert_eq!((receipt.contact_count, receipt.conversation_count), (2, 2));
    assert_eq!((receipt.identity_count, receipt.message_count), (3, 4));
    assert_eq!(receipt.answer_count, 3);
    assert_eq!(
        (receipt.delivery_count, receipt.quarantined_item_count),
        (3, 1)
    );
    let after = tables.dump(&tables.schema).await;
    for canary in canaries {
        assert!(!after.contains(canary), "{canary} is left in {after}");
    }
    for canary in canaries {
        assert!(!tables.dump("directory").await.contains(canary), "{canary}");
    }
    // Only what came of somebody else is kept as it came, and can still be replayed.
    assert_eq!(kept(&account, &tables).await, 1);
    let request = ListQuarantinedItemsRequest {
        tenant: tenant.slug(),
        ..Default::default()
    };
    let items = server
        .tenant_admin()
        .list_quarantined_items(request)
        .await
        .unwrap();
    assert_eq!(items.into_inner().items.len(), 1);

    // Nothing of hers is answered any more.
    let mut inbox = tenant.inbox.clone();
    let (code, reason, _) = refusal(inbox.create_conversation(new).await);
    let erased = (Code::FailedPrecondition, "ANSWER_ERASED");
    assert_eq!((code, reason.as_str()), erased);
    assert_eq!(refusal(inbox.create_message(place).await).0, Code::NotFound);
    let list = ListConversationsRequest {
        tenant: tenant.slug(),
        ..Default::default()
    };
    let left = inbox.list_conversations(list).await.unwrap().into_inner();
    assert_eq!(left.conversations, [other]);
    assert_eq!(names(tenant, |r| r.show_merged = true).await, ["Olga"]);

    // The provider delivers again what it delivered before.
    for file in ["02_text.json", "08_location.json"] {
        account.post_sample(&server, file).await;
    }
    assert_eq!(kept(&account, &tables).await, 1);
    assert_eq!(names(tenant, |r| r.show_merged = true).await, ["Olga"]);
    let again = tables.dump(&tables.schema).await;
    assert!(!again.contains("15550109911") && !again.contains("Dana"));
    // Who writes anew is a new person.
    let new = String::from_utf8(sample("02_text.json", &account.number)).unwrap();
    let new = new.replace("wamid.", "wamid.NEW");
    assert_eq!(account.post(&server, new.as_bytes()).await, 200);
    eventually("she is there as somebody new", async || {
        names(tenant, |_| {}).await.len() == 2
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_with_what_others_wrote_loses_only_what_the_erased_person_did() {
    let server = TestServer::start().await;
    let account = Whatsapp::connected(&server).await;
    let tables = Tables::of(&account.tenant).await;
    let body = String::from_utf8(unsupported(&account.number)).unwrap();
    let mut body: serde_json::Value = serde_json::from_str(&body).unwrap();
    let value = &mut body["entry"][0]["changes"][0]["value"];
    let dana = value["messages"][0].clone();
    let olga = dana.to_string().replace("15550109911", "15550100000");
    let olga = olga
        .replace("US.13499900112233445566", "US.1000")
        .replace("wamid.", "wamid.O");
    value["messages"] = serde_json::json!([
        dana,
        serde_json::from_str::<serde_json::Value>(&olga).unwrap()
    ]);
    assert_eq!(
        account.post(&server, body.to_string().as_bytes()).await,
        200
    );
    account.post_sample(&server, "02_text.json").await;
    assert_eq!(kept(&account, &tables).await, 2);
    let person = account.conversations().await.remove(0).contact_id;
    let receipt = erase(&account.tenant, &person).await;
    assert_eq!(
        (receipt.delivery_count, receipt.quarantined_item_count),
        (2, 1)
    );
    assert_eq!(kept(&account, &tables).await, 1);
    let request = ListQuarantinedItemsRequest {
        tenant: account.tenant.slug(),
        ..Default::default()
    };
    let items = server
        .tenant_admin()
        .list_quarantined_items(request)
        .await
        .unwrap();
    let items: Vec<_> = items
        .into_inner()
        .items
        .iter()
        .map(|item| item.item)
        .collect();
    assert_eq!(items, [2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erased_person_is_in_no_count_of_what_is_open_and_a_recount_agrees() {
    let (_server, tenant) = tenant().await;
    let gone = mail(&tenant, "gone@example.com", "Gone", "Hello").await;
    let stays = mail(&tenant, "stays@example.com", "Stays", "Hello").await;
    for conversation in [&gone, &stays] {
        let request = UpdateConversationRequest {
            tenant: tenant.slug(),
            actor: user("anna"),
            conversation_id: conversation.id.clone(),
            labels: vec!["vip".to_owned()],
            ..Default::default()
        };
        let mut inbox = tenant.inbox.clone();
        inbox.update_conversation(request).await.unwrap();
        let mut answer = tenant.new_message(conversation, "Hello yourself");
        answer.actor = user("anna");
        tenant.send(answer).await;
    }
    tenant.receive(&gone, "One more thing").await;
    let counted = async || {
        let request = GetConversationStatsRequest {
            tenant: tenant.slug(),
            ..Default::default()
        };
        let answer = tenant.inbox.clone().get_conversation_stats(request).await;
        let answer = answer.unwrap().into_inner();
        let all = answer.counts.unwrap();
        let labelled = answer.by_label.into_iter().map(|of| {
            assert_eq!(of.label, "vip");
            of.counts.unwrap().total
        });
        let numbers = [all.total, all.active, all.unread, all.waiting];
        (numbers, labelled.sum::<i64>())
    };
    let differences = async || tenant.recompute().await.unwrap().difference_count;
    assert_eq!(counted().await, ([2, 2, 2, 1], 2));
    assert_eq!(differences().await, 0);
    erase(&tenant, &gone.contact_id).await;
    assert_eq!(counted().await, ([1, 1, 1, 0], 1), "beside the rollups");
    assert_eq!(differences().await, 0);
    assert_eq!(counted().await, ([1, 1, 1, 0], 1), "recomputed");
    // A second time, when all of it lies before the new generation.
    assert_eq!(differences().await, 0);
    assert_eq!(counted().await, ([1, 1, 1, 0], 1), "recomputed once more");
    // What was done stays counted.
    let request = GetMessageVolumeRequest {
        tenant: tenant.slug(),
        ..Default::default()
    };
    let answer = tenant.inbox.clone().get_message_volume(request).await;
    let volume = answer.unwrap().into_inner().volumes.remove(0);
    assert_eq!((volume.inbound_count, volume.outbound_count), (3, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_erased_by_halves_or_twice() {
    let (_server, tenant) = tenant().await;
    let conversation = mail(&tenant, "jane@example.com", "Jane", "Hello").await;
    let jane = get(&tenant, &conversation.contact_id).await;
    let john = create(&tenant, "John", &["john@example.com"]).await;
    let (_, done) = merge(&tenant, &john, &jane).await;
    let (code, reason, _) = refusal(
        tenant
            .inbox
            .clone()
            .erase_contact(erasing(&tenant, &john.id))
            .await,
    );
    let merged = (Code::FailedPrecondition, "CONTACT_MERGED");
    assert_eq!((code, reason.as_str()), merged);
    let calls = (0..8).map(|_| {
        let (tenant, id) = (tenant.clone(), jane.id.clone());
        tokio::spawn(async move { erase(&tenant, &id).await.id })
    });
    let mut receipts = BTreeSet::new();
    for call in calls.collect::<Vec<_>>() {
        receipts.insert(call.await.unwrap());
    }
    assert_eq!(receipts.len(), 1);
    let refused = tenant
        .inbox
        .clone()
        .undo_contact_merge(undoing(&tenant, &done))
        .await;
    assert_eq!(refusal(refused).0, Code::NotFound);
    assert_eq!(refusal(find(&tenant, &john.id).await).0, Code::NotFound);
    let request = GetConversationRequest {
        tenant: tenant.slug(),
        conversation_id: conversation.id,
        ..Default::default()
    };
    let conversation = tenant.inbox.clone().get_conversation(request).await;
    assert_eq!(refusal(conversation).0, Code::NotFound);
    assert_eq!(events(&tenant, "contact.erased").await, 2);
    assert_eq!(events(&tenant, "conversation.deleted").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_table_is_known_to_the_erasure() {
    let (_server, tenant) = tenant().await;
    let tables = Tables::of(&tenant).await;
    // What it empties, and what says nothing of a customer.
    let known: BTreeSet<&str> = [
        "contacts",
        "contact_identities",
        "contact_words",
        "contact_merges",
        "contact_merge_identities",
        "contact_erasures",
        "inbox_conversations",
        "inbox_messages",
        "inbox_message_words",
        "inbox_message_words_backfill",
        "message_amendments",
        "message_attempts",
        "message_revisions",
        "scheduled_messages",
        "scheduled_entries",
        "message_imports",
        "requests",
        "channel_accounts",
        "provider_events",
        "parked_receipts",
        "receipt_watermarks",
        "thread_states",
        "events",
        "attachments",
        "media_fetches",
        "inbox_quick_replies",
        "inbox_quick_reply_uses",
        "audit_log",
        "channels",
        "channel_members",
        "chat_entries",
        "chat_entry_revisions",
        "chat_entry_words",
        "chat_reactions",
        "thread_follows",
        "mentions",
        "conversation_changes",
        "conversation_words",
        "conversation_merges",
        "conversation_read_marks",
        "agents",
        "channel_account_agents",
        "statistics_folds",
        "statistics_states",
        "statistics_rollups",
        "statistics_time_zones",
        "business_hours",
        "__diesel_schema_migrations",
    ]
    .into();
    let found = "SELECT tablename::text FROM pg_tables WHERE schemaname = $1";
    for row in tables.admin.query(found, &[&tables.schema]).await.unwrap() {
        let table: String = row.get(0);
        assert!(
            known.contains(table.as_str()),
            "does `{table}` say anything of a customer? then inbox/contact_erasure.rs has to empty it"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_of_contacts_read_no_more_than_their_pages() {
    let (server, tenant) = tenant().await;
    let account = tenant.conversation().await.channel_account_id;
    let tables = Tables::of(&tenant).await;
    let fill = format!(
        "INSERT INTO {0}.contacts (id, name, name_folded, created_at, updated_at)
            SELECT gen_random_uuid(), 'Person ' || n, 'person ' || n,
                now() - n * interval '1 minute', now() - n * interval '1 second'
            FROM generate_series(1, 20000) n;
        INSERT INTO {0}.contact_identities (id, contact_id, channel_account_id, value)
            SELECT gen_random_uuid(), id, '{account}', name FROM {0}.contacts WHERE name <> '';
        INSERT INTO {0}.contact_words (word, contact_id)
            SELECT split_part(name, ' ', 2), id FROM {0}.contacts WHERE name <> '';
        ANALYZE {0}.contacts, {0}.contact_identities, {0}.contact_words;",
        tables.schema
    );
    admin().await.batch_execute(&fill).await.unwrap();
    let of = |column: &str| {
        format!(
            "SELECT coalesce(sum({column}), 0)::bigint FROM pg_stat_user_tables
            WHERE schemaname = '{{schema}}' AND relname LIKE 'contact%'"
        )
    };
    // What a session has read and written is counted when it ends.
    eventually("the rows are counted", async || {
        tables.count(&of("n_tup_ins")).await >= 60_000
    })
    .await;
    let reads = of("seq_tup_read + coalesce(idx_tup_fetch, 0)");
    let before = tables.count(&reads).await;
    let mut request = ListContactsRequest {
        tenant: tenant.slug(),
        page_size: 50,
        ..Default::default()
    };
    for order in [
        "name",
        "create_time",
        "create_time desc",
        "update_time desc",
    ] {
        request.order_by = order.to_owned();
        request.page_token = String::new();
        for _ in 0..3 {
            let page = tenant.inbox.clone().list_contacts(request.clone()).await;
            let page = page.unwrap().into_inner();
            assert_eq!(page.contacts.len(), 50);
            request.page_token = page.next_page_token;
        }
    }
    request.page_token = String::new();
    request.query = "1999".to_owned();
    let found = tenant.inbox.clone().list_contacts(request).await.unwrap();
    assert_eq!(found.into_inner().contacts.len(), 11);
    server.stop().await;
    eventually("the sessions end", async || {
        tables.sessions("true").await == 0
    })
    .await;
    let read = tables.count(&reads).await - before;
    assert!((13..4_000).contains(&read), "{read} rows for 13 pages");
}
