//! Files: how they come in and out again, which messages have them, and what becomes of those that
//! nobody needs.

use std::collections::BTreeSet;
use std::path::PathBuf;

use aws_lc_rs::digest::{SHA256, digest};
use communication_service::pb::{
    Attachment, AttachmentState, CreateMessageRequest, CreateQuickReplyRequest,
    DeleteTenantRequest, DownloadAttachmentRequest, EraseContactRequest, GetAttachmentRequest,
    GetMessageRequest, GetQuickReplyRequest, Message, MessageDirection, MessageType,
    PurgeTenantRequest, QuickReply, UpdateQuickReplyRequest, UploadAttachmentRequest,
    UploadAttachmentResponse, UseQuickReplyRequest,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Code, Response, Status};
use uuid::Uuid;

use crate::harness::{
    Folder, Refusal, Service, Tables, TestServer, TestTenant, admin, connect, database_url,
    durable, eventually, folder,
};
use crate::janitor::{cleaned, later};

const FRAME: usize = 1 << 20;
const PART: usize = 5 << 20;
const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR";

/// Bytes that differ from place to place, and tell no type.
pub fn bytes(size: usize) -> Vec<u8> {
    (0..size).map(|at| (at * 31 + at / 251) as u8).collect()
}

pub fn sha256(content: &[u8]) -> String {
    let digest = digest(&SHA256, content);
    digest
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// A tenant whose files can be seen.
struct Cabinet {
    server: TestServer,
    tenant: TestTenant,
    folder: PathBuf,
}

impl Cabinet {
    async fn new() -> Self {
        Self::of(TestServer::start().await).await
    }

    async fn of(server: TestServer) -> Self {
        let tenant = server.tenant().await;
        let folder = folder_of(&admin().await, &tenant).await;
        Self {
            server,
            tenant,
            folder,
        }
    }

    fn header(&self, name: &str) -> UploadAttachmentRequest {
        UploadAttachmentRequest {
            tenant: self.tenant.slug(),
            file_name: name.to_owned(),
            ..Default::default()
        }
    }

    /// Sends a file, cut into pieces of a size.
    async fn upload(
        &self,
        header: UploadAttachmentRequest,
        content: &[u8],
        piece: usize,
    ) -> Result<Response<UploadAttachmentResponse>, Status> {
        let mut frames = vec![header];
        frames.extend(content.chunks(piece).map(|piece| UploadAttachmentRequest {
            data: piece.to_vec(),
            ..Default::default()
        }));
        let frames = tokio_stream::iter(frames);
        self.tenant.inbox.clone().upload_attachment(frames).await
    }

    /// Stores a file.
    async fn store(&self, name: &str, content: &[u8]) -> Attachment {
        let stored = self.upload(self.header(name), content, FRAME).await;
        stored.unwrap().into_inner().attachment.unwrap()
    }

    async fn get(&self, attachment: &Attachment) -> Result<Attachment, Status> {
        let request = GetAttachmentRequest {
            tenant: self.tenant.slug(),
            attachment_id: attachment.id.clone(),
        };
        let answer = self.tenant.inbox.clone().get_attachment(request).await?;
        Ok(answer.into_inner().attachment.unwrap())
    }

    /// Reads a part of a file, which must come in pieces of at most 256 KiB.
    async fn download(
        &self,
        attachment: &Attachment,
        offset: i64,
        length: i64,
    ) -> Result<(Attachment, Vec<u8>), Status> {
        let request = DownloadAttachmentRequest {
            tenant: self.tenant.slug(),
            attachment_id: attachment.id.clone(),
            offset,
            length,
        };
        let mut inbox = self.tenant.inbox.clone();
        let mut frames = inbox.download_attachment(request).await?.into_inner();
        let first = frames.message().await?.unwrap();
        assert!(first.data.is_empty());
        let mut content = Vec::new();
        while let Some(frame) = frames.message().await? {
            assert!(frame.attachment.is_none());
            assert!((1..=256 * 1024).contains(&frame.data.len()));
            content.extend(frame.data);
        }
        Ok((first.attachment.unwrap(), content))
    }

    /// The names in the tenant's folder.
    fn files(&self) -> BTreeSet<String> {
        names(&self.folder)
    }

    async fn rows(&self) -> i64 {
        let tables = Tables::of(&self.tenant).await;
        let rows = "SELECT count(*) FROM {schema}.attachments";
        tables.count(rows).await
    }

    /// Waits until nothing is left of any file.
    async fn empties(&self) {
        eventually("nothing is left of a file", async || {
            self.rows().await == 0 && self.files().is_empty()
        })
        .await;
    }

    async fn quick_reply(
        &self,
        shortcut: &str,
        files: &[&Attachment],
    ) -> Result<QuickReply, Status> {
        let request = CreateQuickReplyRequest {
            tenant: self.tenant.slug(),
            shortcut: shortcut.to_owned(),
            text: "Here it is".to_owned(),
            attachment_ids: files.iter().map(|file| file.id.clone()).collect(),
            ..Default::default()
        };
        let mut quick_replies = self.tenant.quick_replies.clone();
        let answer = quick_replies.create_quick_reply(request).await?;
        Ok(answer.into_inner().quick_reply.unwrap())
    }

    async fn message(&self, kind: MessageType, files: &[&Attachment]) -> Result<Message, Status> {
        let conversation = self.tenant.conversation().await;
        let request = CreateMessageRequest {
            r#type: kind.into(),
            attachment_ids: files.iter().map(|file| file.id.clone()).collect(),
            ..self.tenant.new_message(&conversation, "with files")
        };
        let answer = self.tenant.inbox.clone().create_message(request).await?;
        Ok(answer.into_inner().message.unwrap())
    }
}

fn names(folder: &PathBuf) -> BTreeSet<String> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return BTreeSet::new();
    };
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

async fn folder_of(database: &tokio_postgres::Client, tenant: &TestTenant) -> PathBuf {
    let id = "SELECT replace(id::text, '-', '') FROM directory.tenants WHERE slug = $1";
    let row = database.query_one(id, &[&tenant.slug()]).await.unwrap();
    let id: String = row.get(0);
    folder().join("attachments").join(id)
}

fn why(status: &Status) -> (Code, String, Vec<String>) {
    let refusal = Refusal::of(status);
    let fields = refusal.fields.into_keys().collect();
    (refusal.code, refusal.reason, fields)
}

fn invalid(field: &str) -> (Code, String, Vec<String>) {
    let field = vec![field.to_owned()];
    (Code::InvalidArgument, "INVALID_FIELD".to_owned(), field)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_comes_back_as_it_was_sent() {
    let cabinet = Cabinet::new().await;
    let sizes = [
        0,
        1,
        FRAME - 1,
        FRAME,
        FRAME + 1,
        PART - 1,
        PART,
        PART + 1,
        2 * PART,
        20 << 20,
    ];
    let content = bytes(20 << 20);
    for (index, size) in sizes.into_iter().enumerate() {
        let content = &content[..size];
        let mut header = cabinet.header("Plan für März.dat");
        header.content_type = "Application/X-Plan; v=1".to_owned();
        if index % 2 == 0 {
            header.size_bytes = Some(size as i64);
            header.sha256 = sha256(content).to_uppercase();
        }
        let piece = if index % 3 == 0 { 100_001 } else { FRAME };
        let stored = cabinet.upload(header, content, piece).await.unwrap();
        let stored = stored.into_inner().attachment.unwrap();
        assert_eq!(stored.file_name, "Plan für März.dat");
        assert_eq!(stored.content_type, "application/x-plan; v=1");
        assert_eq!(stored.size_bytes, size as i64);
        assert_eq!(stored.sha256, sha256(content));
        assert_eq!(stored.state(), AttachmentState::Ready);
        assert_eq!(stored.message_id, "");
        assert_eq!(cabinet.get(&stored).await.unwrap(), stored);
        let (found, read) = cabinet.download(&stored, 0, 0).await.unwrap();
        assert_eq!(found, stored);
        assert!(read == content, "{size} bytes");
        let name = stored.id.replace('-', "");
        assert!(cabinet.files().contains(&name), "{name}");
    }
    assert_eq!(cabinet.files().len(), sizes.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_of_a_file_is_what_was_asked_for() {
    let cabinet = Cabinet::new().await;
    let size = 600_000;
    let content = bytes(size);
    let stored = cabinet.store("a.bin", &content).await;
    let end = size as i64;
    for (offset, length) in [
        (0, 1),
        (0, 262_144),
        (1, 262_145),
        (262_143, 2),
        (599_999, 1),
        (599_999, 100),
        (300_000, 0),
        (end, 0),
        (end, 1),
        (5, i64::MAX),
    ] {
        let (found, read) = cabinet.download(&stored, offset, length).await.unwrap();
        assert_eq!(found, stored);
        let last = if length == 0 {
            end
        } else {
            offset.saturating_add(length).min(end)
        };
        let expected = &content[offset as usize..last as usize];
        assert!(read == expected, "{offset} {length}");
    }
    for (offset, length, field) in [(-1, 0, "offset"), (0, -1, "length"), (end + 1, 0, "offset")] {
        let refused = cabinet.download(&stored, offset, length).await.unwrap_err();
        assert_eq!(why(&refused), invalid(field));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_as_it_was_said_to_be_is_refused_and_leaves_nothing() {
    let most = (PART + FRAME) as u64;
    let server = TestServer::start_with(|config| config.attachment_bytes = most).await;
    let cabinet = Cabinet::of(server).await;
    let header = || cabinet.header("a.bin");
    let (small, large) = (bytes(1000), bytes(PART + 1000));
    for content in [&small, &large] {
        let size = content.len() as i64;
        let mut wrong = Vec::new();
        for said in [0, size - 1, size + 1] {
            let size_bytes = Some(said);
            wrong.push((
                "size_bytes",
                UploadAttachmentRequest {
                    size_bytes,
                    ..header()
                },
            ));
        }
        let sha256 = sha256(&content[1..]);
        wrong.push(("sha256", UploadAttachmentRequest { sha256, ..header() }));
        let content_type = "image/png".to_owned();
        wrong.push((
            "content_type",
            UploadAttachmentRequest {
                content_type,
                ..header()
            },
        ));
        for (field, header) in wrong {
            let refused = cabinet.upload(header, content, FRAME).await.unwrap_err();
            assert_eq!(why(&refused), invalid(field), "{field}");
            cabinet.empties().await;
        }
    }
    let long = bytes(PART + FRAME + 1);
    let refused = cabinet.upload(header(), &long, FRAME).await.unwrap_err();
    assert_eq!(why(&refused), invalid("data"));
    let size_bytes = Some(most as i64 + 1);
    let said = UploadAttachmentRequest {
        size_bytes,
        ..header()
    };
    let refused = cabinet.upload(said, &small, FRAME).await.unwrap_err();
    assert_eq!(why(&refused), invalid("size_bytes"));
    for size_bytes in [Some(-1), Some(i64::MIN)] {
        let said = UploadAttachmentRequest {
            size_bytes,
            ..header()
        };
        let refused = cabinet.upload(said, &small, FRAME).await.unwrap_err();
        assert_eq!(why(&refused), invalid("size_bytes"));
    }
    // Frames that are too long, the first and another; a frame that has more than content.
    let data = bytes(FRAME + 1);
    let first = UploadAttachmentRequest {
        data: data.clone(),
        ..header()
    };
    let refused = cabinet.upload(first, &[], FRAME).await.unwrap_err();
    assert_eq!(why(&refused), invalid("data"));
    let refused = cabinet
        .upload(header(), &data, FRAME + 1)
        .await
        .unwrap_err();
    assert_eq!(why(&refused), invalid("data"));
    let frames = tokio_stream::iter([header(), header()]);
    let refused = cabinet.tenant.inbox.clone().upload_attachment(frames).await;
    assert_eq!(why(&refused.unwrap_err()), invalid("data"));
    let none = tokio_stream::iter(Vec::<UploadAttachmentRequest>::new());
    let refused = cabinet.tenant.inbox.clone().upload_attachment(none).await;
    let refused = why(&refused.unwrap_err());
    assert_eq!(
        refused,
        (Code::InvalidArgument, "UNDECODABLE".to_owned(), vec![])
    );
    cabinet.empties().await;
    // What has exactly the most is taken.
    let stored = cabinet.store("most.bin", &long[1..]).await;
    assert_eq!(stored.size_bytes, most as i64);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_type_is_what_the_first_bytes_tell() {
    let cabinet = Cabinet::new().await;
    let with = async |content_type: &str, content: &[u8]| {
        let header = UploadAttachmentRequest {
            content_type: content_type.to_owned(),
            ..cabinet.header("picture.jpg")
        };
        let stored = cabinet.upload(header, content, 3).await?;
        Ok::<_, Status>(stored.into_inner().attachment.unwrap().content_type)
    };
    assert_eq!(with("", PNG).await.unwrap(), "image/png");
    assert_eq!(with("image/jpeg", PNG).await.unwrap(), "image/png");
    assert_eq!(
        with("", b"words").await.unwrap(),
        "application/octet-stream"
    );
    assert_eq!(with("text/plain", b"words").await.unwrap(), "text/plain");
    for wrong in ["text/plain", "video/mp4"] {
        let refused = with(wrong, PNG).await.unwrap_err();
        assert_eq!(why(&refused), invalid("content_type"), "{wrong}");
    }
    let long = format!("text/{}", "x".repeat(124));
    for wrong in [
        "text",
        "text/",
        "text plain",
        "text/pl\u{e4}in",
        long.as_str(),
    ] {
        let refused = with(wrong, b"words").await.unwrap_err();
        assert_eq!(why(&refused), invalid("content_type"), "{wrong}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_name_names_no_place() {
    let cabinet = Cabinet::new().await;
    let long = format!("{}x", "ä".repeat(127));
    for good in [
        "a",
        "..a",
        "a b.txt",
        " ",
        "C:",
        "%2e%2e%2f",
        "CON",
        "#1",
        "\u{1f4ce}.png",
        &long,
    ] {
        let stored = cabinet.store(good, b"x").await;
        assert_eq!(stored.file_name, good);
        assert_eq!(cabinet.get(&stored).await.unwrap().file_name, good);
    }
    let files = cabinet.files();
    assert_eq!(files.len(), 10);
    assert!(
        files.iter().all(|name| Uuid::try_parse(name).is_ok()),
        "{files:?}"
    );
    let longer = format!("{long}x");
    for bad in [
        "",
        ".",
        "..",
        "../a",
        "/etc/passwd",
        "a/b",
        "..\\a",
        "a\0",
        "a\nb",
        "a\u{7f}",
        "a\u{85}",
        "gpj.\u{202e}exe",
        "a\u{2066}b",
        &longer,
    ] {
        let refused = cabinet
            .upload(cabinet.header(bad), b"x", 1)
            .await
            .unwrap_err();
        assert_eq!(why(&refused), invalid("file_name"), "{bad:?}");
    }
    assert_eq!(cabinet.files(), files);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_is_broken_off_leaves_nothing() {
    let cabinet = Cabinet::new().await;
    // In the first part, in the second one, and after all of it was sent but not said to be.
    for (frames, begun) in [(1, false), (7, true), (11, true)] {
        let (sender, content) = mpsc::unbounded_channel();
        sender.send(cabinet.header("half.bin")).unwrap();
        for _ in 0..frames {
            let data = bytes(FRAME);
            let frame = UploadAttachmentRequest {
                data,
                ..Default::default()
            };
            sender.send(frame).unwrap();
        }
        let mut inbox = cabinet.tenant.inbox.clone();
        let call = tokio::spawn(async move {
            let content = UnboundedReceiverStream::new(content);
            inbox.upload_attachment(content).await
        });
        if begun {
            eventually("a part is written", async || !cabinet.files().is_empty()).await;
        }
        call.abort();
        assert!(call.await.unwrap_err().is_cancelled());
        cabinet.empties().await;
        drop(sender);
    }
    cabinet.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_falls_silent_is_ended() {
    let server = TestServer::start_with(|config| config.call_seconds = 1).await;
    let cabinet = Cabinet::of(server).await;
    let (sender, content) = mpsc::unbounded_channel();
    sender.send(cabinet.header("slow.bin")).unwrap();
    let mut inbox = cabinet.tenant.inbox.clone();
    let call = tokio::spawn(async move {
        let content = UnboundedReceiverStream::new(content);
        inbox.upload_attachment(content).await
    });
    // Longer as a whole than a call may take, but never silent for so long.
    for _ in 0..6 {
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        let data = bytes(FRAME);
        let frame = UploadAttachmentRequest {
            data,
            ..Default::default()
        };
        sender.send(frame).unwrap();
    }
    assert!(!call.is_finished());
    let refused = call.await.unwrap().unwrap_err();
    let late = (
        Code::DeadlineExceeded,
        "DEADLINE_EXCEEDED".to_owned(),
        vec![],
    );
    assert_eq!(why(&refused), late);
    cabinet.empties().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_upload_stores_one_file() {
    let cabinet = Cabinet::new().await;
    let header = || UploadAttachmentRequest {
        request_id: "upload-1".to_owned(),
        ..cabinet.header("a.bin")
    };
    let content = bytes(PART + 5);
    let at_once = futures_util::future::join_all(
        [FRAME, 999_999, 1 << 19, FRAME].map(|piece| cabinet.upload(header(), &content, piece)),
    )
    .await;
    let stored: Vec<_> = at_once
        .into_iter()
        .map(|stored| stored.unwrap().into_inner().attachment.unwrap())
        .collect();
    assert!(stored.iter().all(|one| *one == stored[0]), "{stored:?}");
    let again = cabinet.upload(header(), &content, 123_456).await.unwrap();
    assert_eq!(again.into_inner().attachment.unwrap(), stored[0]);
    assert_eq!(cabinet.rows().await, 1);
    assert_eq!(cabinet.files().len(), 1);
    let (_, read) = cabinet.download(&stored[0], 0, 0).await.unwrap();
    assert!(read == content);
    let other_name = UploadAttachmentRequest {
        file_name: "b.bin".to_owned(),
        ..header()
    };
    for (header, content) in [(header(), &content[1..]), (other_name, &content[..])] {
        let refused = cabinet.upload(header, content, FRAME).await.unwrap_err();
        let reused = (Code::AlreadyExists, "REQUEST_ID_REUSED".to_owned(), vec![]);
        assert_eq!(why(&refused), reused);
    }
    assert_eq!(cabinet.rows().await, 1);
    assert_eq!(cabinet.files().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_has_its_files_in_their_order_wherever_it_is_shown() {
    let cabinet = Cabinet::new().await;
    let mut files = Vec::new();
    for number in 0..20 {
        files.push(cabinet.store(&format!("{number}.bin"), &[number]).await);
    }
    let conversation = cabinet.tenant.conversation().await;
    let request = CreateMessageRequest {
        r#type: MessageType::Document.into(),
        request_id: "with-files".to_owned(),
        attachment_ids: files.iter().rev().map(|file| file.id.clone()).collect(),
        ..cabinet.tenant.new_message(&conversation, "see attached")
    };
    let sent = cabinet.tenant.send(request.clone()).await;
    let expected: Vec<_> = files
        .iter()
        .rev()
        .map(|file| {
            let mut file = file.clone();
            file.set_state(AttachmentState::Attached);
            file.message_id = sent.id.clone();
            file
        })
        .collect();
    assert_eq!(sent.attachments, expected);
    assert_eq!(cabinet.get(&files[0]).await.unwrap(), expected[19]);
    assert_eq!(cabinet.download(&files[3], 0, 0).await.unwrap().1, [3]);
    let get = GetMessageRequest {
        tenant: cabinet.tenant.slug(),
        message_id: sent.id.clone(),
    };
    let found = cabinet.tenant.inbox.clone().get_message(get).await.unwrap();
    assert_eq!(found.into_inner().message.unwrap(), sent);
    let plain = cabinet.tenant.reply(&conversation, "no files").await;
    assert_eq!(plain.attachments, []);
    assert_eq!(
        cabinet.tenant.messages(&conversation).await,
        [sent.clone(), plain]
    );
    // A repeated request is answered as the first one was, although the files are taken.
    assert_eq!(cabinet.tenant.send(request).await, sent);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_has_files_of_its_kind() {
    use MessageType::{Audio, Document, Image, Location, Text, Video};
    let cabinet = Cabinet::new().await;
    let of_type = async |content_type: &str, content: &[u8]| {
        let header = UploadAttachmentRequest {
            content_type: content_type.to_owned(),
            ..cabinet.header("file")
        };
        let stored = cabinet.upload(header, content, FRAME).await.unwrap();
        stored.into_inner().attachment.unwrap()
    };
    let kinds = [
        ("image/png", PNG, Image),
        ("audio/x-voice", b"~~", Audio),
        ("video/x-film", b"##", Video),
        ("application/x-plan", b"--", Document),
    ];
    for (content_type, content, kind) in kinds {
        let mut taken = 0;
        for wanted in [Image, Audio, Video, Document, Text] {
            let file = of_type(content_type, content).await;
            let sent = cabinet.message(wanted, &[&file]).await;
            if wanted == kind || wanted == Document || wanted == Text {
                assert_eq!(sent.unwrap().attachments.len(), 1);
                taken += 1;
            } else {
                let refused = invalid("attachment_ids[0]");
                assert_eq!(
                    why(&sent.unwrap_err()),
                    refused,
                    "{content_type} {wanted:?}"
                );
                assert_eq!(cabinet.get(&file).await.unwrap(), file);
            }
        }
        assert_eq!(taken, if kind == Document { 2 } else { 3 });
    }
    for kind in [Image, Audio, Video, Document] {
        let refused = cabinet.message(kind, &[]).await.unwrap_err();
        assert_eq!(why(&refused), invalid("attachment_ids"), "{kind:?}");
    }
    let (one, other) = (of_type("image/png", PNG).await, of_type("", b"x").await);
    let refused = cabinet.message(Image, &[&one, &other]).await.unwrap_err();
    assert_eq!(why(&refused), invalid("attachment_ids[1]"));
    let refused = cabinet.message(Document, &[&one, &one]).await.unwrap_err();
    assert_eq!(why(&refused), invalid("attachment_ids[1]"));
    let refused = cabinet.message(Document, &[&one; 21]).await.unwrap_err();
    assert_eq!(why(&refused), invalid("attachment_ids"));
    let refused = cabinet.message(Location, &[&one]).await.unwrap_err();
    assert!(Refusal::of(&refused).names("attachment_ids"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_of_one_message() {
    let cabinet = Cabinet::new().await;
    let (one, other) = (
        cabinet.store("1", b"1").await,
        cabinet.store("2", b"2").await,
    );
    // Many at once, in either order.
    let attempts = (0..12).map(|number| {
        let both = if number % 2 == 0 {
            [&one, &other]
        } else {
            [&other, &one]
        };
        let cabinet = &cabinet;
        async move { cabinet.message(MessageType::Document, &both).await }
    });
    let mut sent = Vec::new();
    for attempt in futures_util::future::join_all(attempts).await {
        match attempt {
            Ok(message) => sent.push(message),
            Err(refused) => {
                let (code, reason, _) = why(&refused);
                let expected = (Code::FailedPrecondition, "ATTACHMENT_IN_USE");
                assert!(
                    (code, reason.as_str()) == expected || code == Code::Aborted,
                    "{refused:?}"
                );
            }
        }
    }
    assert_eq!(sent.len(), 1);
    for file in [&one, &other] {
        assert_eq!(cabinet.get(file).await.unwrap().message_id, sent[0].id);
    }
    let refused = cabinet
        .message(MessageType::Text, &[&one])
        .await
        .unwrap_err();
    let refusal = Refusal::of(&refused);
    assert_eq!(
        refusal.why(),
        (Code::FailedPrecondition, "ATTACHMENT_IN_USE")
    );
    assert_eq!(refusal.metadata["attachment_id"], one.id);
    let absent = Attachment {
        id: Uuid::now_v7().to_string(),
        ..one
    };
    let refused = cabinet
        .message(MessageType::Document, &[&absent])
        .await
        .unwrap_err();
    let refusal = Refusal::of(&refused);
    assert_eq!(
        refusal.resource,
        Some(("attachment".to_owned(), absent.id.clone()))
    );
    for refused in [
        cabinet.get(&absent).await.map(drop),
        cabinet.download(&absent, 0, 0).await.map(drop),
    ] {
        assert_eq!(
            Refusal::of(&refused.unwrap_err()).why(),
            (Code::NotFound, "RESOURCE_NOT_FOUND")
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quick_reply_has_files_and_each_message_of_it_copies() {
    let cabinet = Cabinet::new().await;
    let tenant = &cabinet.tenant;
    let menu = cabinet.store("menu.txt", b"soup").await;
    let map = cabinet.store("map.txt", b"left, then right").await;
    let own = cabinet.store("own.txt", b"own").await;
    let quick_reply = cabinet.quick_reply("menu", &[&menu, &map]).await.unwrap();
    let of = |quick_reply: &QuickReply| -> Vec<_> {
        let files = quick_reply.attachments.iter();
        files.map(|file| (file.id.clone(), file.state())).collect()
    };
    let attached = AttachmentState::Attached;
    let both = vec![(menu.id.clone(), attached), (map.id.clone(), attached)];
    assert_eq!(of(&quick_reply), both);
    let get = GetQuickReplyRequest {
        tenant: tenant.slug(),
        quick_reply_id: quick_reply.id.clone(),
        ..Default::default()
    };
    let mut quick_replies = tenant.quick_replies.clone();
    let got = quick_replies.get_quick_reply(get).await.unwrap();
    assert_eq!(got.into_inner().quick_reply.unwrap(), quick_reply);
    let used = UseQuickReplyRequest {
        tenant: tenant.slug(),
        quick_reply_id: quick_reply.id.clone(),
        ..Default::default()
    };
    let used = quick_replies.use_quick_reply(used).await.unwrap();
    assert_eq!(used.into_inner().attachments, quick_reply.attachments);
    let stored = cabinet.get(&menu).await.unwrap();
    assert_eq!(stored.quick_reply_id, quick_reply.id);

    // They are of nothing else.
    let in_use = (Code::FailedPrecondition, "ATTACHMENT_IN_USE");
    let refused = cabinet.message(MessageType::Text, &[&menu]).await;
    assert_eq!(Refusal::of(&refused.unwrap_err()).why(), in_use);
    let refused = cabinet.quick_reply("other", &[&map]).await;
    assert_eq!(Refusal::of(&refused.unwrap_err()).why(), in_use);
    let refused = cabinet.quick_reply("other", &[&own, &own]).await;
    assert_eq!(why(&refused.unwrap_err()), invalid("attachment_ids[1]"));

    // Its messages have copies behind files of their own, once for a request.
    let conversation = tenant.conversation().await;
    let mut request = tenant.new_message(&conversation, "");
    request.quick_reply_id.clone_from(&quick_reply.id);
    request.attachment_ids = vec![own.id.clone()];
    request.request_id = "once".to_owned();
    let sent = tenant.send(request.clone()).await;
    assert_eq!(sent.text, "Here it is");
    let names: Vec<_> = sent
        .attachments
        .iter()
        .map(|file| file.file_name.as_str())
        .collect();
    assert_eq!(names, ["own.txt", "menu.txt", "map.txt"]);
    assert_eq!(cabinet.rows().await, 5);
    assert_eq!(tenant.send(request.clone()).await, sent);
    assert_eq!(cabinet.rows().await, 5);
    request.request_id.clear();
    request.attachment_ids.clear();
    let again = tenant.send(request.clone()).await;
    let mut ids: BTreeSet<_> = [&sent, &again]
        .into_iter()
        .flat_map(|message| message.attachments.iter().map(|file| file.id.clone()))
        .collect();
    ids.extend([menu.id.clone(), map.id.clone()]);
    assert_eq!(ids.len(), 7);
    for (copy, original) in again.attachments.iter().zip([&menu, &map]) {
        assert_eq!(copy.sha256, original.sha256);
        assert_eq!(
            (&copy.message_id, copy.quick_reply_id.as_str()),
            (&again.id, "")
        );
        let content = cabinet.download(original, 0, 0).await.unwrap().1;
        assert_eq!(cabinet.download(copy, 0, 0).await.unwrap().1, content);
    }

    // What it does not have any more is gone, but for the copies.
    let update = UpdateQuickReplyRequest {
        tenant: tenant.slug(),
        quick_reply_id: quick_reply.id.clone(),
        attachment_ids: vec![map.id.clone()],
        ..Default::default()
    };
    let updated = quick_replies.update_quick_reply(update).await.unwrap();
    let updated = updated.into_inner().quick_reply.unwrap();
    assert_eq!(of(&updated), both[1..]);
    assert_eq!(updated.version, quick_reply.version + 4);
    assert_eq!(cabinet.get(&menu).await.unwrap_err().code(), Code::NotFound);
    let copy = &again.attachments[0];
    assert_eq!(cabinet.download(copy, 0, 0).await.unwrap().1, b"soup");
    let last = tenant.send(request).await;
    assert_eq!(last.attachments.len(), 1);
    let clear = UpdateQuickReplyRequest {
        tenant: tenant.slug(),
        quick_reply_id: quick_reply.id,
        update_mask: Some(prost_types::FieldMask {
            paths: vec!["attachment_ids".to_owned()],
        }),
        ..Default::default()
    };
    let cleared = quick_replies.update_quick_reply(clear).await.unwrap();
    assert_eq!(of(&cleared.into_inner().quick_reply.unwrap()), []);
    assert_eq!(cabinet.get(&map).await.unwrap_err().code(), Code::NotFound);

    // A message has no more than it may.
    let mut many = Vec::new();
    for number in 0..20 {
        many.push(cabinet.store(&number.to_string(), b"x").await);
    }
    let many: Vec<_> = many.iter().collect();
    let quick_reply = cabinet.quick_reply("many", &many).await.unwrap();
    let own = cabinet.store("own.txt", b"own").await;
    let mut request = tenant.new_message(&conversation, "");
    request.quick_reply_id = quick_reply.id;
    request.attachment_ids = vec![own.id];
    let refused = tenant.inbox.clone().create_message(request.clone()).await;
    assert_eq!(why(&refused.unwrap_err()), invalid("attachment_ids"));
    request.attachment_ids.clear();
    assert_eq!(tenant.send(request).await.attachments.len(), 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_two_tenants_are_apart_and_go_with_their_tenant() {
    let cabinet = Cabinet::new().await;
    let tenant = cabinet.server.tenant().await;
    let neighbour = Cabinet {
        folder: folder_of(&admin().await, &tenant).await,
        server: TestServer::start().await,
        tenant,
    };
    let ours = cabinet.store("same.bin", b"the same bytes").await;
    let theirs = neighbour.store("same.bin", b"the same bytes").await;
    assert_ne!(ours.id, theirs.id);
    assert_eq!((cabinet.files().len(), neighbour.files().len()), (1, 1));
    let absent = Attachment {
        id: Uuid::now_v7().to_string(),
        ..ours.clone()
    };
    for id in [&theirs, &absent] {
        let refused = cabinet.download(id, 0, 0).await.unwrap_err();
        let message = Refusal::of(&refused).message.replace(&id.id, "");
        assert_eq!(message, "attachment `` does not exist");
    }
    let delete = DeleteTenantRequest {
        tenant: neighbour.tenant.slug(),
        ..Default::default()
    };
    cabinet
        .server
        .tenant_admin()
        .delete_tenant(delete)
        .await
        .unwrap();
    assert_eq!(neighbour.files().len(), 1);
    let purge = PurgeTenantRequest {
        tenant: neighbour.tenant.slug(),
        force: true,
        ..Default::default()
    };
    cabinet
        .server
        .tenant_admin()
        .purge_tenant(purge)
        .await
        .unwrap();
    assert!(!neighbour.folder.exists());
    assert_eq!(
        cabinet.download(&ours, 0, 0).await.unwrap().1,
        b"the same bytes"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_nobody_needs_go_after_a_day_and_no_others() {
    let place = Folder::new();
    let postgres = durable(&place).await;
    let (url, database) = (postgres.url(), connect(postgres.url()).await);
    let server = later(url, "0s").await;
    let tenant = TestTenant::new(&server, server.initialize("acme").await);
    let gone = TestTenant::new(&server, server.initialize("gone").await);
    let stray = folder_of(&database, &gone).await;
    let schema = tenant.tenant.schema_name.clone();
    let folder = folder_of(&database, &tenant).await;
    let cabinet = Cabinet {
        server,
        tenant,
        folder,
    };
    let unused = cabinet.store("unused", b"1").await;
    let kept = cabinet.store("kept", b"2").await;
    let of_deleted = cabinet.store("of deleted", b"3").await;
    let of_quick_reply = cabinet.store("of a quick reply", b"4").await;
    cabinet
        .quick_reply("menu", &[&of_quick_reply])
        .await
        .unwrap();
    cabinet
        .message(MessageType::Document, &[&kept])
        .await
        .unwrap();
    let deleted = cabinet
        .message(MessageType::Document, &[&of_deleted])
        .await
        .unwrap();
    let delete = format!(
        "UPDATE {schema}.inbox_messages SET deleted_at = directory.now() WHERE id = '{}'",
        deleted.id
    );
    database.execute(&delete, &[]).await.unwrap();
    // Its file does not exist from then on.
    assert_eq!(
        cabinet.get(&of_deleted).await.unwrap_err().code(),
        Code::NotFound
    );
    // Two uploads that a crash has ended, one of them before its file was whole.
    for (suffix, written) in [("", true), ("#1", true), ("", false)] {
        let id = Uuid::now_v7();
        let begun = format!(
            "INSERT INTO {schema}.attachments (id, state, file_name, content_type, actor_kind,
                actor_id, caller, correlation_id, created_at)
             VALUES ('{id}', 'uploading', 'half', 'text/plain', 'service', 'x', 'x', 'x', directory.now())"
        );
        database.execute(&begun, &[]).await.unwrap();
        if written {
            let path = cabinet.folder.join(format!("{}{suffix}", id.simple()));
            std::fs::write(path, b"half").unwrap();
        }
        let attachment = Attachment {
            id: id.to_string(),
            ..kept.clone()
        };
        assert_eq!(
            cabinet.get(&attachment).await.unwrap_err().code(),
            Code::NotFound
        );
    }
    assert_eq!(cabinet.files().len(), 6);
    // A tenant that is purged while a file of it was on its way.
    let delete = DeleteTenantRequest {
        tenant: gone.slug(),
        ..Default::default()
    };
    cabinet
        .server
        .tenant_admin()
        .delete_tenant(delete)
        .await
        .unwrap();
    let purge = PurgeTenantRequest {
        tenant: gone.slug(),
        force: true,
        ..Default::default()
    };
    cabinet
        .server
        .tenant_admin()
        .purge_tenant(purge)
        .await
        .unwrap();
    std::fs::create_dir_all(&stray).unwrap();
    std::fs::write(stray.join("late"), b"late").unwrap();
    let Cabinet {
        server,
        tenant,
        folder,
    } = cabinet;
    server.stop().await;

    // An hour before it is time: what is of a deleted message goes at once, nothing else.
    let early = later(url, "23hours").await;
    cleaned(&database, 23).await;
    eventually("the file of the deleted message is gone", async || {
        names(&folder).len() == 5
    })
    .await;
    assert!(stray.join("late").exists());
    early.stop().await;
    let (one, two) = tokio::join!(later(url, "25hours"), later(url, "25hours"));
    let rows = format!("SELECT count(*) FROM {schema}.attachments");
    let purged = "SELECT count(*) FROM directory.purged_files";
    eventually("only what is needed is left", async || {
        let rows: i64 = database.query_one(&rows, &[]).await.unwrap().get(0);
        let purged: i64 = database.query_one(purged, &[]).await.unwrap().get(0);
        (rows, purged) == (2, 0)
    })
    .await;
    assert!(!stray.exists());
    let left = [&kept, &of_quick_reply].map(|file| file.id.replace('-', ""));
    assert_eq!(names(&folder), BTreeSet::from(left));
    let inbox = one.inbox();
    let tenant = TestTenant { inbox, ..tenant };
    let cabinet = Cabinet {
        server: one,
        tenant,
        folder,
    };
    assert_eq!(cabinet.download(&kept, 0, 0).await.unwrap().1, b"2");
    for gone in [&unused, &of_deleted] {
        assert_eq!(cabinet.get(gone).await.unwrap_err().code(), Code::NotFound);
    }
    cabinet.server.stop().await;
    two.stop().await;
    postgres.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_an_erased_person_say_nothing_any_more() {
    let cabinet = Cabinet::new().await;
    let header = UploadAttachmentRequest {
        request_id: "passport".to_owned(),
        ..cabinet.header("passport of Jane.pdf")
    };
    let stored = cabinet.upload(header, b"Jane", 4).await.unwrap();
    let stored = stored.into_inner().attachment.unwrap();
    let conversation = cabinet.tenant.conversation().await;
    let request = CreateMessageRequest {
        r#type: MessageType::Document.into(),
        attachment_ids: vec![stored.id.clone()],
        ..cabinet.tenant.new_message(&conversation, "")
    };
    cabinet.tenant.send(request).await;
    let erase = EraseContactRequest {
        tenant: cabinet.tenant.slug(),
        contact_id: conversation.contact_id,
        ..Default::default()
    };
    cabinet
        .tenant
        .inbox
        .clone()
        .erase_contact(erase)
        .await
        .unwrap();
    let refused = cabinet.download(&stored, 0, 0).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);
    let tables = Tables::of(&cabinet.tenant).await;
    for table in ["attachments", "inbox_messages", "requests"] {
        let told =
            format!("SELECT count(*) FROM {{schema}}.{table} t WHERE t::text LIKE '%passport of%'");
        assert_eq!(tables.count(&told).await, 0, "{table}");
    }
    let marked = "SELECT count(*) FROM {schema}.attachments WHERE state = 'deleted'";
    assert_eq!(tables.count(marked).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_file_needs_little_memory() {
    let service = Service::start_with(&folder(), database_url().await, &[]).await;
    let server = TestServer::start().await;
    let tenant = server.tenant().await;
    let inbox = communication_service::pb::inbox_service_client::InboxServiceClient::new(
        service.channel.clone(),
    );
    let tenant = TestTenant { inbox, ..tenant };
    let cabinet = Cabinet {
        server,
        tenant,
        folder: folder(),
    };
    // What a first one needs anyway does not count.
    let small = cabinet.store("small.bin", &bytes(PART * 2)).await;
    cabinet.download(&small, 0, 0).await.unwrap();
    let before = service.peak_memory();
    let content = bytes(95 << 20);
    let long = cabinet.store("long.bin", &content).await;
    let (_, read) = cabinet.download(&long, 0, 0).await.unwrap();
    assert!(read == content);
    let grown = service.peak_memory().saturating_sub(before);
    assert!(
        grown < 32 << 20,
        "{grown} bytes for a file of {}",
        content.len()
    );
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_inbound_message_may_have_files_too() {
    let cabinet = Cabinet::new().await;
    let picture = cabinet.store("picture.png", PNG).await;
    let conversation = cabinet.tenant.conversation().await;
    let request = CreateMessageRequest {
        direction: MessageDirection::Inbound.into(),
        r#type: MessageType::Image.into(),
        attachment_ids: vec![picture.id.clone()],
        ..cabinet.tenant.new_message(&conversation, "")
    };
    let received = cabinet.tenant.send(request).await;
    assert_eq!(received.attachments[0].content_type, "image/png");
    assert_eq!(received.text, "");
}
