//! Bodies that no recorded webhook has: what is missing, `null`, of another shape or unheard of.

use bytes::Bytes;
use serde_json::{Value, json};
use uuid::Uuid;

use super::item::{Content, Item};
use super::verified::{Verified, kept};
use crate::ids::AppId;
use crate::inbox::{
    Amendment, AmendmentKind, Direction, Inbound, InboundMessage, MessageStatus, MessageType,
};
use crate::provider::messenger::Product;
use crate::provider::{email, messenger, personal_whatsapp, whatsapp, zendesk};

type Items = Result<Vec<Item>, String>;

/// What a reader makes of a body.
fn read(reader: impl Fn(&Verified<Bytes>) -> Items, body: &Value) -> Vec<Content> {
    let body = kept(AppId(Uuid::nil()), body.to_string().into());
    let items = reader(&body).unwrap();
    items.into_iter().map(|item| item.content).collect()
}

fn only(mut contents: Vec<Content>) -> Content {
    assert_eq!(contents.len(), 1, "{contents:?}");
    contents.remove(0)
}

fn message(content: &Content) -> &InboundMessage {
    match content {
        Content::Inbound(Inbound::Message(message)) => message,
        other => panic!("{other:?}"),
    }
}

fn amendment(content: &Content) -> &Amendment {
    match content {
        Content::Inbound(Inbound::Amendment(amendment)) => amendment,
        other => panic!("{other:?}"),
    }
}

fn is_unreadable(content: &Content) -> bool {
    matches!(content, Content::Unreadable(_))
}

fn of_whatsapp(field: &str, value: Value) -> Vec<Content> {
    let change = match value {
        Value::Null => json!({"field": field}),
        value => json!({"field": field, "value": value}),
    };
    let body = json!({
        "object": "whatsapp_business_account",
        "entry": [{"id": "1", "changes": [change]}],
    });
    read(whatsapp::items, &body)
}

/// What is made of the only message of a webhook, with other members than a text has.
fn of_message(other: &Value) -> Content {
    let mut message = json!({"from": "15550109911", "id": "wamid.X", "timestamp": "1773480900"});
    let members = message.as_object_mut().unwrap();
    members.extend(other.as_object().unwrap().clone());
    only(of_whatsapp("messages", json!({"messages": [message]})))
}

#[test]
fn whatsapp_says_null_and_leaves_out() {
    let text = json!({"type": "text", "text": {"body": "hi"}, "group_id": null, "errors": null});
    assert_eq!(message(&of_message(&text)).text, "hi");
    let button = json!({"type": "button", "button": {"payload": "YES"}});
    assert_eq!(message(&of_message(&button)).text, "YES");
    let welcome = of_message(&json!({"type": "request_welcome"}));
    assert_eq!(welcome, Content::Ignored("request_welcome"));
    let edit = json!({"type": "edit", "edit": {
        "original_message_id": "wamid.O", "message": {"text": {"body": "better"}},
    }});
    assert_eq!(amendment(&of_message(&edit)).text, "better");
    // What has no time of its own is the newest.
    for time in [json!(null), json!("0"), json!("99999999999"), json!("soon")] {
        let reaction = json!({"type": "reaction", "timestamp": time, "reaction": {
            "message_id": "wamid.O", "emoji": "👍",
        }});
        let content = of_message(&reaction);
        let newest = amendment(&content).place;
        assert!(newest > 1_773_480_900_000, "{time}: {newest}");
    }
    let decimal = of_message(&json!({"type": "text", "timestamp": 1_773_480_900.5}));
    let at = message(&decimal).at.unwrap();
    assert_eq!(at.timestamp(), 1_773_480_900);
}

#[test]
fn whatsapp_of_another_shape_is_told_of() {
    for (field, value) in [
        ("messages", json!(null)),
        ("messages", json!({})),
        ("messages", json!({"messages": {"id": "wamid.X"}})),
        ("messages", json!({"messages": [], "statuses": "x"})),
        ("smb_message_echoes", json!({"messages": []})),
    ] {
        assert!(
            is_unreadable(&only(of_whatsapp(field, value.clone()))),
            "{value}"
        );
    }
    let template = of_whatsapp(
        "message_template_status_update",
        json!({"event": "APPROVED"}),
    );
    assert_eq!(template, [Content::Ignored("other_field")]);
    let unknown = only(of_whatsapp("polls", json!({"polls": [{"id": "1"}]})));
    assert_eq!(
        unknown,
        Content::Unsupported("the field `polls`".to_owned())
    );
    let errors = of_whatsapp("messages", json!({"errors": [{"code": 131_000}]}));
    assert_eq!(errors, [Content::Ignored("errors")]);
    let echo = json!({"from": "1", "to": "12036", "group_id": "12036", "id": "wamid.G"});
    let echoes = of_whatsapp("smb_message_echoes", json!({"message_echoes": [echo]}));
    assert_eq!(echoes, [Content::Ignored("group")]);
}

fn of_meta(product: Product, entry: &Value) -> Vec<Content> {
    let object = match product {
        Product::Messenger => "page",
        Product::Instagram => "instagram",
    };
    let mut entry = entry.clone();
    entry["id"] = json!("7");
    entry["time"] = json!(1_773_480_900_000_i64);
    let body = json!({"object": object, "entry": [entry]});
    read(|body| messenger::items(product, body), &body)
}

/// What is made of an event between a customer and a page.
fn of_event(other: &Value) -> Vec<Content> {
    let mut event = json!({"sender": {"id": "5"}, "recipient": {"id": "7"}});
    let members = event.as_object_mut().unwrap();
    members.extend(other.as_object().unwrap().clone());
    of_meta(Product::Messenger, &json!({"messaging": [event]}))
}

#[test]
fn messenger_says_null_and_leaves_out() {
    let tap = only(of_event(&json!({
        "message": null, "reaction": null, "postback": {"mid": "m", "title": "Start"},
    })));
    assert_eq!(message(&tap).text, "Start");
    let nobody = only(of_event(
        &json!({"sender": null, "message": {"mid": "m", "text": "x"}}),
    ));
    assert!(is_unreadable(&nobody), "{nobody:?}");
    let own = json!({"sender": {"id": "7"}, "message": {"mid": "m", "text": "x"}});
    assert_eq!(of_event(&own), [Content::Ignored("self")]);
    let edit = only(of_event(
        &json!({"message_edit": {"mid": "m", "num_edit": 1}}),
    ));
    assert!(is_unreadable(&edit), "{edit:?}");
    // Its place is when it was told.
    let reaction = only(of_event(
        &json!({"reaction": {"mid": "m", "action": "react"}}),
    ));
    assert_eq!(amendment(&reaction).place, 1_773_480_900_000);
    let product = only(of_event(&json!({"message": {"mid": "m", "attachments": [
        {"type": "template", "payload": {"product": {"elements": [{"title": "Red mug"}]}}},
    ]}})));
    assert_eq!(message(&product).text, "Red mug");
}

#[test]
fn messenger_names_what_was_delivered_and_what_nobody_knows() {
    let named = json!({"delivery": {"mids": ["m_a", "m_b"], "watermark": 1_773_480_900_000_i64}});
    let contents = of_event(&named);
    assert!(
        matches!(
            contents.as_slice(),
            [
                Content::Inbound(Inbound::Receipt(first)),
                Content::Inbound(Inbound::Receipt(second)),
                Content::Inbound(Inbound::Watermark(_)),
            ] if first.provider_id == "m_a" && second.provider_id == "m_b"
        ),
        "{contents:?}"
    );
    let one = of_event(&json!({"delivery": {"mids": ["m_a"]}}));
    assert!(matches!(only(one), Content::Inbound(Inbound::Receipt(_))));
    let unknown = only(of_event(&json!({"message_pin": {"mid": "m"}})));
    assert!(matches!(unknown, Content::Unsupported(_)), "{unknown:?}");
    let optin = of_event(&json!({"optin": {"ref": "x"}}));
    assert_eq!(optin, [Content::Ignored("other_event")]);
    let misshapen = of_meta(Product::Messenger, &json!({"messaging": {"message": {}}}));
    assert!(is_unreadable(&only(misshapen)));
}

#[test]
fn instagram_tells_everything_as_changes_too() {
    let value = json!({
        "sender": {"id": "5"}, "recipient": {"id": "7"}, "timestamp": "1773480006",
        "reaction": {"mid": "o1", "action": "react", "emoji": "❤"},
    });
    let change = json!({"changes": [{"field": "message_reactions", "value": value}]});
    let reaction = only(of_meta(Product::Instagram, &change));
    let reaction = amendment(&reaction);
    assert_eq!(
        (reaction.kind, reaction.text.as_str()),
        (AmendmentKind::Reaction, "❤")
    );
}

fn of_waha(event: &str, payload: &Value) -> Content {
    let body = json!({
        "session": "s", "event": event, "id": "evt_1", "timestamp": 1_773_480_099_000_i64,
        "me": {"id": "15550003001@c.us"}, "payload": payload,
    });
    only(read(personal_whatsapp::waha_items, &body))
}

#[test]
fn waha_knows_crowds_whoever_writes() {
    const GROUP: &str = "120363000000000001@g.us";
    const OWN: &str = "15550003001@c.us";
    let in_group = format!("true_{GROUP}_3EB0AA_{OWN}");
    for payload in [
        json!({"id": in_group, "from": GROUP, "to": OWN, "fromMe": true, "body": "x"}),
        json!({"id": in_group, "from": OWN, "to": OWN, "fromMe": true, "body": "x"}),
        json!({"id": "true_x_3EB0", "from": "status@broadcast", "to": OWN, "fromMe": true}),
    ] {
        let content = of_waha("message.any", &payload);
        assert_eq!(content, Content::Ignored("group"), "{payload}");
    }
    let to_self = json!({"id": "3EB0", "from": OWN, "to": OWN, "fromMe": true, "body": "x"});
    assert_eq!(of_waha("message.any", &to_self), Content::Ignored("self"));
    // What leaves the chat out has it in its id.
    let ack = json!({"id": "true_15550109911@c.us_3EB0OUT1", "fromMe": true, "ack": 3});
    let receipt = of_waha("message.ack", &ack);
    assert!(
        matches!(receipt, Content::Inbound(Inbound::Receipt(_))),
        "{receipt:?}"
    );
    let nobody = of_waha("message", &json!({"id": "3EB0", "from": null, "body": "x"}));
    assert!(is_unreadable(&nobody), "{nobody:?}");
}

#[test]
fn waha_edits_twice_and_misses_files() {
    let edit = |event: &str, words: &str| {
        let body = json!({
            "session": "s", "event": "message.edited", "id": event, "timestamp": 1_773_480_099_000_i64,
            "payload": {"id": "false_15550109911@c.us_3EB01", "timestamp": 1_773_480_000,
                "from": "15550109911@c.us", "fromMe": false, "body": words},
        });
        only(read(personal_whatsapp::waha_items, &body))
    };
    let (second, third) = (edit("evt_1", "second"), edit("evt_2", "third"));
    assert_ne!(amendment(&second).occurrence, amendment(&third).occurrence);
    assert_eq!(edit("evt_1", "second"), second);
    let picture = of_waha(
        "message",
        &json!({
            "id": "3EB0", "from": "15550109911@c.us", "body": "", "hasMedia": true,
            "media": {"url": null, "mimetype": "image/jpeg", "error": "timeout"},
        }),
    );
    let picture = message(&picture);
    assert_eq!(picture.message_type, MessageType::Image);
    assert_eq!(picture.metadata["media_missing"], true);
    let card = "BEGIN:VCARD\nFN:Dana\nitem1.TEL;waid=1:+1 555\nEND:VCARD";
    let contact = of_waha(
        "message",
        &json!({"id": "3EB0", "from": "15550109911@c.us", "body": card, "vCards": [card]}),
    );
    assert_eq!(message(&contact).text, "Dana, +1 555");
}

fn of_evolution(message: &Value) -> Content {
    let body = json!({"event": "messages.upsert", "instance": "s", "data": {
        "key": {"remoteJid": "15550109911@s.whatsapp.net", "fromMe": false, "id": "3EB0"},
        "message": message, "messageTimestamp": 1_773_480_000,
    }});
    only(read(personal_whatsapp::evolution_items, &body))
}

#[test]
fn evolution_leaves_empty_words_beside_a_picture() {
    for words in [json!(""), json!(null)] {
        let content = of_evolution(&json!({
            "conversation": words, "imageMessage": {"mimetype": "image/jpeg"}, "base64": "eA==",
        }));
        let picture = message(&content);
        assert_eq!(picture.message_type, MessageType::Image);
        assert_eq!(picture.files.len(), 1);
    }
    let key = json!({"id": "3EB01", "remoteJid": "15550109911@s.whatsapp.net"});
    let gone = of_evolution(&json!({"protocolMessage": {"type": 0, "key": key}}));
    assert_eq!(amendment(&gone).kind, AmendmentKind::Withdrawal);
}

#[test]
fn a_private_comment_is_private_however_it_is_said() {
    let of_trigger = |is_public: Value| {
        let body = json!({"ticket": {
            "id": "1", "title": "Help", "account": "7",
            "requester": {"name": "Dana", "email": "dana@example.com"},
            "latest_comment": {"id": "2", "value": "x", "author_name": "Dana", "is_public": is_public},
        }});
        only(read(zendesk::tickets, &body))
    };
    for (is_public, direction) in [
        (json!(false), Direction::Internal),
        (json!("false"), Direction::Internal),
        (json!("False"), Direction::Internal),
        (json!(true), Direction::Inbound),
        (json!("true"), Direction::Inbound),
        (json!(null), Direction::Inbound),
    ] {
        let content = of_trigger(is_public.clone());
        assert_eq!(message(&content).direction, direction, "{is_public}");
    }
}

/// What became of our mail, by account, as a service tells it.
fn reports(arrivals: Vec<email::Arrival>) -> Vec<(String, MessageStatus)> {
    let items = email::items(arrivals).into_iter();
    let status = |item: Item| match item.content {
        Content::Inbound(Inbound::Receipt(receipt)) => Some((item.route_key, receipt.status)),
        Content::Ignored(_) => None,
        other => panic!("{other:?}"),
    };
    items.filter_map(status).collect()
}

#[test]
fn a_bounce_is_final_whatever_kind_it_is() {
    let ses = |kind: &str, sub_kind: &str, person: Value| {
        let body = json!({
            "eventType": "Bounce",
            "mail": {"messageId": "1", "source": "Support <Support+x@in.example>"},
            "bounce": {"bounceType": kind, "bounceSubType": sub_kind, "bouncedRecipients": [person]},
        });
        reports(email::ses::arrivals(body.to_string().as_bytes()).unwrap())
    };
    let failed = [("support@in.example".to_owned(), MessageStatus::Failed)];
    let full = json!({"emailAddress": "dana@x", "status": "4.2.2"});
    assert_eq!(ses("Transient", "MailboxFull", full.clone()), failed);
    assert_eq!(ses("Transient", "General", full), failed);
    assert_eq!(
        ses(
            "Undetermined",
            "Undetermined",
            json!({"emailAddress": "dana@x"})
        ),
        failed
    );
    // Whoever is away answers so, too.
    assert_eq!(
        ses("Transient", "General", json!({"emailAddress": "dana@x"})),
        []
    );
    let sendgrid = |event: &str, kind: &str| {
        let body = json!([{
            "event": event, "type": kind, "status": "4.7.1", "smtp-id": "<1@x>",
            "email": "dana@x", "from": "support@in.example",
        }]);
        reports(email::sendgrid::arrivals("application/json", body.to_string().as_bytes()).unwrap())
    };
    assert_eq!(sendgrid("bounce", "blocked"), failed);
    assert_eq!(sendgrid("deferred", ""), []);
    let mailgun = |severity: &str| {
        let body = json!({"event-data": {
            "event": "failed", "severity": severity, "envelope": {"sender": "bounce@in.example"},
            "message": {"headers": {"message-id": "1@x", "from": "Support <support@in.example>"}},
        }});
        reports(email::mailgun::arrivals("application/json", body.to_string().as_bytes()).unwrap())
    };
    // It is tried again.
    assert_eq!(mailgun("temporary"), []);
    let addresses: Vec<String> = mailgun("permanent")
        .into_iter()
        .map(|(key, _)| key)
        .collect();
    assert_eq!(addresses, ["bounce@in.example", "support@in.example"]);
}

#[test]
fn a_ticket_that_begins_solved_says_so() {
    let created = |status: &str| {
        let body = json!({"account_id": 1, "id": "e", "type": "zen:event-type:ticket.created",
            "time": "2026-03-14T09:20:00Z",
            "detail": {"id": "5", "requester_id": "7", "description": "hi", "status": status}});
        read(zendesk::tickets, &body)
    };
    assert_eq!(created("OPEN").len(), 1);
    let solved = created("SOLVED");
    assert_eq!(message(&solved[0]).text, "hi");
    let Content::Inbound(Inbound::ThreadState(state)) = &solved[1] else {
        panic!("{solved:?}");
    };
    assert!(state.archived && state.at.is_some());
}

#[test]
fn meta_bans_businesses_and_says_so() {
    let banned = json!({"event": "DISABLED_UPDATE", "ban_info": {"waba_ban_state": "DISABLE"}});
    let state = |state: &str| Content::BusinessState {
        business_account: "1".to_owned(),
        state: state.to_owned(),
    };
    assert_eq!(
        only(of_whatsapp("account_update", banned)),
        state("DISABLE")
    );
    let gone = json!({"event": "PARTNER_REMOVED", "ban_info": null});
    assert_eq!(
        only(of_whatsapp("account_update", gone)),
        state("PARTNER_REMOVED")
    );
    assert!(is_unreadable(&only(of_whatsapp(
        "account_update",
        Value::Null
    ))));
}
