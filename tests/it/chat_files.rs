//! Files of the team's chat: how they come in and out again, who sees them, and what becomes of them.

use communication_service::pb::{
    Actor, Attachment, AttachmentState, ChannelRole, ChatChannelKind, ChatEntry,
    CreateMessageRequest, CreateQuickReplyRequest, DownloadAttachmentRequest,
    DownloadChatAttachmentRequest, EditEntryRequest, GetAttachmentRequest,
    GetChatAttachmentRequest, ListEntriesRequest, MessageType, PostEntryRequest,
    UploadAttachmentRequest, UploadChatAttachmentRequest,
};
use futures_util::future::join_all;
use tonic::{Code, Status};

use crate::attachments::{bytes, sha256};
use crate::chat::{Team, missing, refused, team, why};
use crate::harness::{Folder, Tables, TestTenant, connect, durable, eventually, user};
use crate::janitor::later;

const FRAME: usize = 1 << 20;
const MEMBERS: [(&str, ChannelRole); 2] =
    [("ann", ChannelRole::Member), ("bob", ChannelRole::Guest)];

impl Team {
    fn file(&self, who: &str, name: &str) -> UploadChatAttachmentRequest {
        UploadChatAttachmentRequest {
            tenant: self.tenant.slug(),
            actor: user(who),
            file_name: name.to_owned(),
            ..Default::default()
        }
    }

    async fn upload(
        &self,
        header: UploadChatAttachmentRequest,
        content: &[u8],
    ) -> Result<Attachment, Status> {
        let mut frames = vec![header];
        let pieces = content.chunks(FRAME);
        frames.extend(pieces.map(|piece| UploadChatAttachmentRequest {
            data: piece.to_vec(),
            ..Default::default()
        }));
        let mut chat = self.tenant.chat.clone();
        let answer = chat
            .upload_chat_attachment(tokio_stream::iter(frames))
            .await;
        answer.map(|answer| answer.into_inner().attachment.unwrap())
    }

    pub async fn store(&self, who: &str, name: &str) -> Attachment {
        let stored = self.upload(self.file(who, name), name.as_bytes()).await;
        stored.unwrap()
    }

    async fn get_file(
        &self,
        file: &Attachment,
        who: Option<Actor>,
        unrestricted: bool,
    ) -> Result<Attachment, Status> {
        let request = GetChatAttachmentRequest {
            tenant: self.tenant.slug(),
            actor: who,
            unrestricted,
            attachment_id: file.id.clone(),
        };
        let answer = self.tenant.chat.clone().get_chat_attachment(request).await;
        answer.map(|answer| answer.into_inner().attachment.unwrap())
    }

    async fn download(
        &self,
        file: &Attachment,
        who: Option<Actor>,
        (offset, length): (i64, i64),
    ) -> Result<(Attachment, Vec<u8>), Status> {
        let request = DownloadChatAttachmentRequest {
            tenant: self.tenant.slug(),
            actor: who,
            attachment_id: file.id.clone(),
            offset,
            length,
            ..Default::default()
        };
        let mut chat = self.tenant.chat.clone();
        let mut frames = chat.download_chat_attachment(request).await?.into_inner();
        let first = frames.message().await?.unwrap();
        let mut content = Vec::new();
        while let Some(frame) = frames.message().await? {
            assert!(frame.attachment.is_none());
            content.extend(frame.data);
        }
        Ok((first.attachment.unwrap(), content))
    }

    fn with_files(&self, channel: &str, who: &str, files: &[&Attachment]) -> PostEntryRequest {
        PostEntryRequest {
            attachment_ids: files.iter().map(|file| file.id.clone()).collect(),
            ..self.new_entry(channel, who, "")
        }
    }

    async fn post_files(&self, channel: &str, who: &str, files: &[&Attachment]) -> ChatEntry {
        let request = self.with_files(channel, who, files);
        self.try_post(request).await.unwrap()
    }
}

fn attached(entry: &ChatEntry, file: &Attachment) -> Attachment {
    Attachment {
        state: AttachmentState::Attached.into(),
        chat_entry_id: entry.id.clone(),
        ..file.clone()
    }
}

fn in_use() -> (Code, String) {
    (Code::FailedPrecondition, "ATTACHMENT_IN_USE".to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_an_entry_come_back_as_they_were_sent() {
    let (server, team) = team().await;
    let channel = team.channel(ChatChannelKind::Private, &MEMBERS).await;
    let content = bytes((5 << 20) + 1);
    let mut files = Vec::new();
    for size in [0, 1, FRAME, FRAME + 1, content.len()] {
        let content = &content[..size];
        let mut header = team.file("ann", "Plan für März.dat");
        header.content_type = "Application/X-Plan; v=1".to_owned();
        header.size_bytes = Some(size as i64);
        header.sha256 = sha256(content);
        header.request_id = format!("upload-{size}");
        let stored = team.upload(header.clone(), content).await.unwrap();
        assert_eq!(stored.file_name, "Plan für März.dat");
        assert_eq!(stored.content_type, "application/x-plan; v=1");
        assert_eq!(
            (stored.size_bytes, &stored.sha256),
            (size as i64, &header.sha256)
        );
        assert_eq!(stored.state(), AttachmentState::Ready);
        assert_eq!(team.upload(header, content).await.unwrap(), stored);
        let (found, read) = team.download(&stored, user("ann"), (0, 0)).await.unwrap();
        assert_eq!(found, stored);
        assert!(read == content, "{size} bytes");
        files.push(stored);
    }
    let named: Vec<_> = files.iter().rev().collect();
    let mut new = team.with_files(&channel.id, "ann", &named);
    new.request_id = "files".to_owned();
    let entry = team.try_post(new.clone()).await.unwrap();
    let expected: Vec<_> = named.iter().map(|file| attached(&entry, file)).collect();
    assert_eq!((entry.text.as_str(), &entry.attachments), ("", &expected));
    assert_eq!(team.try_post(new).await.unwrap(), entry);
    assert_eq!(team.entry(&entry.id, user("bob")).await.unwrap(), entry);
    let list = ListEntriesRequest {
        actor: user("bob"),
        channel_id: channel.id.clone(),
        ..Default::default()
    };
    let listed = team.entries(list).await;
    assert_eq!(listed, std::slice::from_ref(&entry));
    for (file, size) in expected.iter().rev().zip([0, 1, FRAME]) {
        let (found, read) = team.download(file, user("bob"), (0, 0)).await.unwrap();
        assert_eq!(found, *file);
        assert!(read == content[..size]);
    }
    let part = team.download(&expected[0], user("bob"), (1_000_000, 300_000));
    assert!(part.await.unwrap().1 == content[1_000_000..1_300_000]);

    // With words they may lose those, and without files they may not.
    let mut edit = EditEntryRequest {
        actor: user("ann"),
        entry_id: entry.id.clone(),
        text: Some("Five plans".to_owned()),
        ..Default::default()
    };
    let edited = team.edit(edit.clone()).await.unwrap();
    assert_eq!(edited.attachments, entry.attachments);
    edit.text = Some(String::new());
    assert_eq!(team.edit(edit.clone()).await.unwrap().text, "");
    edit.entry_id = team.say(&channel.id, "ann", "Words").await.id;
    assert!(refused(team.edit(edit).await).names("text"));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_seen_by_who_sees_its_channel_and_nowhere_else() {
    let (server, team) = team().await;
    let private = team.channel(ChatChannelKind::Private, &MEMBERS).await;
    let public = team.channel(ChatChannelKind::Public, &MEMBERS).await;
    let (secret, open) = (
        team.store("ann", "secret").await,
        team.store("ann", "open").await,
    );
    let sees = async |file: &Attachment, who: Option<Actor>, sees: bool| {
        let got = team.get_file(file, who.clone(), false).await;
        let read = team.download(file, who.clone(), (0, 0)).await;
        if sees {
            let got = got.unwrap();
            assert_eq!((&got.id, &got.sha256), (&file.id, &file.sha256));
            assert_eq!(read.unwrap(), (got, file.file_name.clone().into_bytes()));
        } else {
            assert_eq!(why(got), missing(), "{who:?} {}", file.file_name);
            assert_eq!(why(read), missing(), "{who:?} {}", file.file_name);
        }
    };
    let everybody = ["ann", "owner", "bob", "stranger"].map(user);
    for who in everybody.iter().cloned().chain([None]) {
        sees(&secret, who.clone(), who == user("ann")).await;
    }
    // Past the rules of channels, but it is in none.
    assert_eq!(why(team.get_file(&secret, None, true).await), missing());
    team.post_files(&private.id, "ann", &[&secret]).await;
    team.post_files(&public.id, "ann", &[&open]).await;
    for who in everybody.iter().cloned().chain([None]) {
        let is_member = who.is_some() && who != user("stranger");
        sees(&secret, who.clone(), is_member).await;
        sees(&open, who, true).await;
    }
    team.get_file(&secret, None, true).await.unwrap();
    let tables = Tables::of(&team.tenant).await;
    let sql = format!("SELECT call FROM {}.audit_log", tables.schema);
    let rows = tables.admin.query(&sql, &[]).await.unwrap();
    let calls: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(calls, ["/communication.v1.ChatService/GetChatAttachment"]);
    // Who is out sees nothing more, be the file their own.
    team.remove(&private.id, "owner", "ann").await.unwrap();
    sees(&secret, user("ann"), false).await;
    sees(&secret, user("bob"), true).await;

    // The inbox knows nothing of them, and the chat nothing of those of the inbox.
    let free = team.store("ann", "free").await;
    let tenant = &team.tenant;
    for file in [&secret, &open, &free] {
        let get = GetAttachmentRequest {
            tenant: tenant.slug(),
            attachment_id: file.id.clone(),
        };
        let got = tenant.inbox.clone().get_attachment(get).await;
        assert_eq!(why(got), missing());
        let download = DownloadAttachmentRequest {
            tenant: tenant.slug(),
            attachment_id: file.id.clone(),
            ..Default::default()
        };
        let got = tenant.inbox.clone().download_attachment(download).await;
        assert_eq!(got.err().unwrap().code(), Code::NotFound);
        let conversation = tenant.conversation().await;
        let message = CreateMessageRequest {
            actor: user("ann"),
            r#type: MessageType::Document.into(),
            attachment_ids: vec![file.id.clone()],
            ..tenant.new_message(&conversation, "")
        };
        let sent = tenant.inbox.clone().create_message(message).await;
        assert_eq!(why(sent), missing());
        let quick_reply = CreateQuickReplyRequest {
            tenant: tenant.slug(),
            actor: user("ann"),
            shortcut: file.file_name.clone(),
            text: "Here it is".to_owned(),
            attachment_ids: vec![file.id.clone()],
            ..Default::default()
        };
        let mut quick_replies = tenant.quick_replies.clone();
        let made = quick_replies.create_quick_reply(quick_reply).await;
        assert_eq!(why(made), missing());
    }
    let of_inbox = UploadAttachmentRequest {
        tenant: tenant.slug(),
        actor: user("ann"),
        file_name: "menu".to_owned(),
        data: b"soup".to_vec(),
        ..Default::default()
    };
    let mut inbox = tenant.inbox.clone();
    let stored = inbox.upload_attachment(tokio_stream::iter([of_inbox]));
    let of_inbox = stored.await.unwrap().into_inner().attachment.unwrap();
    sees(&of_inbox, user("ann"), false).await;
    let taken = team.with_files(&public.id, "ann", &[&of_inbox]);
    assert_eq!(why(team.try_post(taken).await), missing());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_of_one_entry_of_who_has_stored_it() {
    let (server, team) = team().await;
    let channel = team.channel(ChatChannelKind::Private, &MEMBERS).await;
    let id = channel.id.as_str();
    let (own, other) = (
        team.store("ann", "own").await,
        team.store("bob", "bob").await,
    );
    let absent = Attachment {
        id: uuid::Uuid::now_v7().to_string(),
        ..own.clone()
    };
    for file in [&other, &absent] {
        let taken = team.with_files(id, "ann", &[&own, file]);
        assert_eq!(why(team.try_post(taken).await), missing());
    }
    let twice = team.with_files(id, "ann", &[&own, &own]);
    assert!(refused(team.try_post(twice).await).names("attachment_ids[1]"));
    let mut many = Vec::new();
    for number in 0..21 {
        many.push(team.store("ann", &number.to_string()).await);
    }
    let many: Vec<_> = many.iter().collect();
    let too_many = team.with_files(id, "ann", &many);
    assert!(refused(team.try_post(too_many).await).names("attachment_ids"));
    // Who does not see the channel learns nothing of the file.
    let stranger = team.with_files(id, "stranger", &[&own]);
    assert!(
        refused(team.try_post(stranger).await)
            .message
            .contains("channel")
    );
    // None of that has an effect.
    let seen = team.get(id, user("ann")).await.unwrap();
    assert_eq!(seen.last_sequence, 0);
    assert_eq!(
        team.post_files(id, "ann", &many[1..])
            .await
            .attachments
            .len(),
        20
    );

    let posts = (0..8).map(|_| team.try_post(team.with_files(id, "ann", &[&own])));
    let (posted, refused): (Vec<_>, Vec<_>) =
        join_all(posts).await.into_iter().partition(Result::is_ok);
    assert_eq!(posted.len(), 1);
    for answer in refused {
        assert_eq!(why(answer), in_use());
    }
    let mut thread = team.with_files(id, "ann", &[&own]);
    thread.thread_root_id = posted.into_iter().next().unwrap().unwrap().id;
    assert_eq!(why(team.try_post(thread.clone()).await), in_use());
    thread.attachment_ids = vec![many[0].id.clone()];
    let reply = team.try_post(thread).await.unwrap();
    assert_eq!(reply.attachments, [attached(&reply, many[0])]);
    assert_eq!(team.get(id, user("ann")).await.unwrap().last_sequence, 3);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_go_with_their_entry() {
    let (server, team) = team().await;
    let conversation = team.tenant.conversation().await;
    let mut new = team.new_channel("ann", ChatChannelKind::Public);
    new.conversation_id = conversation.id.clone();
    let channel = team.try_create(new).await.unwrap();
    let mut files = Vec::new();
    for name in ["canary one", "canary two"] {
        let mut header = team.file("ann", name);
        header.request_id = name.replace(" ", "-");
        files.push(team.upload(header, name.as_bytes()).await.unwrap());
    }
    let deleted = team.post_files(&channel.id, "ann", &[&files[0]]).await;
    team.post_files(&channel.id, "ann", &[&files[1]]).await;
    let tables = Tables::of(&team.tenant).await;
    let left = async || {
        let schema = &tables.schema;
        let sql = format!(
            "SELECT (SELECT count(*) FROM {schema}.attachments a WHERE a::text LIKE '%canary%')
                + (SELECT count(*) FROM {schema}.requests r WHERE r.response::text LIKE '%canary%')
                + (SELECT count(*) FROM {schema}.chat_entries e WHERE e::text LIKE '%canary%')"
        );
        let row = tables.admin.query_one(&sql, &[]).await.unwrap();
        row.get::<_, i64>(0)
    };
    assert_eq!(left().await, 6);
    let again = async |name: &str| {
        let mut header = team.file("ann", name);
        header.request_id = name.replace(" ", "-");
        why(team.upload(header, name.as_bytes()).await)
    };
    let erased = (Code::FailedPrecondition, "ANSWER_ERASED".to_owned());

    let tombstone = team.delete(&deleted.id, "ann").await.unwrap();
    assert_eq!(tombstone.attachments, []);
    assert_eq!(
        why(team.get_file(&files[0], user("ann"), false).await),
        missing()
    );
    assert_eq!(again("canary one").await, erased);
    assert_eq!(left().await, 3);

    crate::contacts::erase(&team.tenant, &conversation.contact_id).await;
    assert_eq!(
        why(team.get_file(&files[1], user("ann"), false).await),
        missing()
    );
    assert_eq!(again("canary two").await, erased);
    assert_eq!(left().await, 0);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_the_chat_that_nobody_needs_go_after_a_day_and_no_others() {
    let place = Folder::new();
    let postgres = durable(&place).await;
    let (url, database) = (postgres.url(), connect(postgres.url()).await);
    let server = later(url, "0s").await;
    let tenant = TestTenant::new(&server, server.initialize("acme").await);
    let schema = tenant.tenant.schema_name.clone();
    let team = Team { tenant };
    let forgetful = {
        let mut new = team.new_channel("ann", ChatChannelKind::Public);
        new.retention_days = 1;
        team.try_create(new).await.unwrap()
    };
    let lasting = team.new_channel("ann", ChatChannelKind::Public);
    let lasting = team.try_create(lasting).await.unwrap();
    let [kept, purged, deleted, _unused] = [
        team.store("ann", "kept").await,
        team.store("ann", "purged").await,
        team.store("ann", "deleted").await,
        team.store("ann", "unused").await,
    ];
    team.post_files(&lasting.id, "ann", &[&kept]).await;
    team.post_files(&forgetful.id, "ann", &[&purged]).await;
    let entry = team.post_files(&lasting.id, "ann", &[&deleted]).await;
    team.delete(&entry.id, "ann").await.unwrap();
    server.stop().await;
    let names = async || {
        let sql = format!("SELECT file_name FROM {schema}.attachments ORDER BY 1");
        let rows = database.query(&sql, &[]).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect::<Vec<String>>()
    };
    let early = later(url, "23hours").await;
    eventually("the file of the deleted entry is gone", async || {
        names().await == ["kept", "purged", "unused"]
    })
    .await;
    early.stop().await;
    // Where entries go in the same round, their files go in this one or the next.
    for hours in ["25hours", "27hours"] {
        let late = later(url, hours).await;
        crate::janitor::cleaned(&database, hours[..2].parse().unwrap()).await;
        late.stop().await;
    }
    let late = later(url, "29hours").await;
    eventually("only what is needed is left", async || {
        names().await == ["kept"]
    })
    .await;
    late.stop().await;
}
