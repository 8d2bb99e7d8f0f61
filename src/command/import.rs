//! `import`: history that was written elsewhere, line by line, into a tenant of a running server.

mod line;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::error::Error;
use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use futures_util::stream::{self, StreamExt as _};
use prost::Message;
use tonic::transport::Channel;
use tonic::{Code, Response, Status};
use tonic_types::StatusExt as _;

use self::line::{Entry, Lines, Reader};
use super::client::{Client, ClientArgs, ClientError, descriptors};
use crate::pb::inbox_service_client::InboxServiceClient;
use crate::pb::new_message_result::Result as Made;
use crate::pb::{self, NewMessage};

/// How many messages are sent in one call.
const MESSAGES: usize = 100;
/// How many bytes they have at most.
const BYTES: usize = 1024 * 1024;
/// How many conversations are made at once.
const TOGETHER: usize = 8;
/// How often a call is tried that a busy server refuses.
const TRIES: u32 = 6;
/// How long is waited before the second try, and twice as long before each further one.
const WAIT: Duration = Duration::from_millis(250);
/// How often progress is told where it is not shown on a terminal.
const TELL_EVERY: Duration = Duration::from_secs(5);
/// What `import` takes.
#[derive(Debug, Args)]
#[command(after_long_help = FORMAT)]
pub struct ImportArgs {
    #[command(flatten)]
    client: ClientArgs,
    /// The tenant to import into
    #[arg(long, value_name = "SLUG")]
    tenant: String,
    /// A file with one message in JSON on each line; `-` reads standard input
    file: PathBuf,
}

const FORMAT: &str = r#"Each line is one message, the oldest first:

  {"channel": "whatsapp", "contact_identifier": "+15550100", "contact_name": "Dana",
   "import_id": "m-1", "direction": "inbound", "text": "Hello",
   "provider_time": "2019-05-01T09:30:00Z"}

Its conversation is said by the fields of `CreateConversation` (channel, channel_account_id,
contact_identifier, contact_name, subject, priority, thread_key), which finds or makes it, or by
conversation_id. The message is said by the fields of `NewMessage`: import_id, which has to be
there, and direction, type, text, location, metadata, author, provider_time, status and
reply_to_message_id; or reply_to_import_id, the import_id of an earlier line of the conversation.

Lines that are wrong are named and left out. The same file again makes only what is missing."#;

/// Imports, and shows how far it is.
pub async fn run(args: ImportArgs) -> Result<(), Box<dyn Error>> {
    let client = args.client.connect().await?;
    let total = count_lines(&args.file)?;
    let mut lines = Lines::new(open(&args.file)?);
    let reader = Reader::new(&descriptors()?)?;
    let mut import = Import {
        inbox: InboxServiceClient::new(client.channel.clone()),
        client,
        tenant: args.tenant,
        conversations: HashMap::new(),
        imported: HashMap::new(),
        progress: Progress::new(total),
    };
    loop {
        let mut batch = Vec::new();
        let mut bytes = 0;
        while batch.len() < MESSAGES && bytes < BYTES {
            let Some((number, line)) = lines.next()? else {
                break;
            };
            match reader.read(&line) {
                Ok(entry) if entry.message.encoded_len() > BYTES => {
                    let problem = format!("has a message of more than {BYTES} bytes");
                    import.progress.fail(number, &problem)?;
                }
                Ok(entry) => {
                    bytes += entry.message.encoded_len();
                    batch.push((number, entry));
                }
                Err(problem) => import.progress.fail(number, &problem)?,
            }
        }
        if batch.is_empty() {
            break;
        }
        import.send(batch).await?;
        import.progress.show(lines.number)?;
    }
    import.progress.end(lines.number)
}

fn open(path: &Path) -> Result<Box<dyn BufRead>, ClientError> {
    if path == Path::new("-") {
        return Ok(Box::new(io::stdin().lock()));
    }
    let file = File::open(path).map_err(|source| ClientError::File {
        path: path.to_owned(),
        source,
    })?;
    Ok(Box::new(BufReader::new(file)))
}

/// How many lines there are; `None` where they can be read only once.
fn count_lines(path: &Path) -> Result<Option<u64>, Box<dyn Error>> {
    if !path.is_file() {
        return Ok(None);
    }
    let mut reader = open(path)?;
    let mut lines = 0;
    let mut ends = true;
    loop {
        let part = reader.fill_buf()?;
        let Some(last) = part.last() else {
            return Ok(Some(lines + u64::from(!ends)));
        };
        ends = *last == b'\n';
        lines += u64::try_from(part.iter().filter(|byte| **byte == b'\n').count())?;
        let length = part.len();
        reader.consume(length);
    }
}

/// What makes conversations the same: channel, account, person, thread.
type Key = (i32, String, String, String);

fn key(request: &pb::CreateConversationRequest) -> Key {
    (
        request.channel,
        request.channel_account_id.clone(),
        request.contact_identifier.clone(),
        request.thread_key.clone(),
    )
}

/// What has been imported so far, and where it goes.
struct Import {
    client: Client,
    inbox: InboxServiceClient<Channel>,
    tenant: String,
    conversations: HashMap<Key, String>,
    /// The ids of messages by their conversation and what they were called.
    imported: HashMap<(String, String), String>,
    progress: Progress,
}

impl Import {
    /// Sends some lines.
    async fn send(&mut self, batch: Vec<(u64, Entry)>) -> Result<(), Box<dyn Error>> {
        let refused = self.find_conversations(&batch).await?;
        let mut numbers = Vec::with_capacity(batch.len());
        let mut messages: Vec<NewMessage> = Vec::with_capacity(batch.len());
        let mut places: HashMap<(String, String), usize> = HashMap::new();
        for (number, entry) in batch {
            let mut message = entry.message;
            if let Some(request) = &entry.conversation {
                let key = key(request);
                match (self.conversations.get(&key), refused.get(&key)) {
                    (Some(id), _) => message.conversation_id.clone_from(id),
                    (None, why) => {
                        let why = why.map_or("has no conversation", String::as_str);
                        self.progress.fail(number, why)?;
                        continue;
                    }
                }
            }
            let name = |import_id: &str| (message.conversation_id.clone(), import_id.to_owned());
            if let Some(reply_to) = &entry.reply_to {
                let name = name(reply_to);
                if let Some(place) = places.get(&name) {
                    message.reply_to_index = Some(i32::try_from(*place)?);
                } else if let Some(id) = self.imported.get(&name) {
                    message.reply_to_message_id.clone_from(id);
                } else {
                    let problem = "`reply_to_import_id` names no earlier message";
                    self.progress.fail(number, problem)?;
                    continue;
                }
            }
            let name = name(&message.import_id);
            places.entry(name).or_insert(messages.len());
            numbers.push(number);
            messages.push(message);
        }
        if messages.is_empty() {
            return Ok(());
        }
        let names = messages.iter().map(|message| {
            let import_id = message.import_id.clone();
            (message.conversation_id.clone(), import_id)
        });
        let names: Vec<_> = names.collect();
        let request = pb::BatchCreateMessagesRequest {
            tenant: self.tenant.clone(),
            messages,
            imported: true,
            ..Default::default()
        };
        let answer = patiently(async || {
            let mut inbox = self.inbox.clone();
            let request = self.client.request(request.clone());
            inbox.batch_create_messages(request).await
        });
        let results = answer.await?.results.into_iter();
        for (place, ((number, name), made)) in
            numbers.into_iter().zip(names).zip(results).enumerate()
        {
            match made.result {
                Some(Made::Message(message)) => {
                    self.imported.insert(name, message.id);
                    self.progress.succeed(made.created);
                }
                Some(Made::Error(error)) => {
                    // It has another place in the file.
                    let place = format!("messages[{place}].");
                    self.progress
                        .fail(number, &error.message.replace(&place, ""))?;
                }
                None => self.progress.fail(number, "nothing is known of it")?,
            }
        }
        Ok(())
    }

    /// Finds or makes the conversations of some lines that are not known yet; returns why some of
    /// them cannot be.
    async fn find_conversations(
        &mut self,
        batch: &[(u64, Entry)],
    ) -> Result<BTreeMap<Key, String>, Box<dyn Error>> {
        let wanted = batch.iter().filter_map(|(_, entry)| {
            let request = entry.conversation.as_ref()?;
            let key = key(request);
            (!self.conversations.contains_key(&key)).then_some((key, request))
        });
        // The first line that tells of one says what it is about, in the order of the file.
        let mut requests: Vec<(Key, pb::CreateConversationRequest)> = Vec::new();
        let mut seen = HashSet::new();
        for (key, request) in wanted {
            if seen.insert(key.clone()) {
                let tenant = self.tenant.clone();
                requests.push((
                    key,
                    pb::CreateConversationRequest {
                        tenant,
                        ..request.clone()
                    },
                ));
            }
        }
        let made: Vec<_> = stream::iter(requests)
            .map(|(key, request)| {
                let (inbox, client) = (&self.inbox, &self.client);
                async move {
                    let made = patiently(async || {
                        let request = client.request(request.clone());
                        inbox.clone().create_conversation(request).await
                    });
                    (key, made.await)
                }
            })
            .buffered(TOGETHER)
            .collect()
            .await;
        let mut refused = BTreeMap::new();
        for (key, made) in made {
            match made {
                Ok(answer) => {
                    let conversation = answer.conversation.unwrap_or_default();
                    self.conversations.insert(key, conversation.id);
                }
                Err(status) if is_of_line(&status) => {
                    refused.insert(key, status.message().to_owned());
                }
                Err(status) => return Err(ClientError::from(status).into()),
            }
        }
        Ok(refused)
    }
}

/// Tells whether a refusal is about what a line says, and not about the server or the credential.
fn is_of_line(status: &Status) -> bool {
    match status.code() {
        Code::InvalidArgument | Code::FailedPrecondition | Code::AlreadyExists => true,
        Code::NotFound => {
            let details = status.get_error_details();
            let what = details.resource_info();
            what.is_some_and(|what| what.resource_type != "tenant")
        }
        _ => false,
    }
}

/// Calls, and tries again while the server is busy or away for a moment: what is imported has ids.
async fn patiently<T>(call: impl AsyncFn() -> Result<Response<T>, Status>) -> Result<T, Status> {
    let mut tries = 1;
    loop {
        match call().await {
            Ok(answer) => return Ok(answer.into_inner()),
            Err(status) if tries < TRIES && is_passing(&status) => {
                tokio::time::sleep(WAIT * 2_u32.pow(tries - 1)).await;
                tries += 1;
            }
            Err(status) => return Err(status),
        }
    }
}

fn is_passing(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Unavailable | Code::ResourceExhausted | Code::Aborted | Code::DeadlineExceeded
    )
}

/// How far an import is.
struct Progress {
    total: Option<u64>,
    begun: Instant,
    told: Instant,
    terminal: bool,
    created: u64,
    known: u64,
    failed: u64,
}

impl Progress {
    fn new(total: Option<u64>) -> Self {
        Self {
            total,
            begun: Instant::now(),
            told: Instant::now(),
            terminal: io::stderr().is_terminal(),
            created: 0,
            known: 0,
            failed: 0,
        }
    }

    fn succeed(&mut self, created: bool) {
        match created {
            true => self.created += 1,
            false => self.known += 1,
        }
    }

    /// Names a line that is left out.
    fn fail(&mut self, number: u64, problem: &str) -> io::Result<()> {
        self.failed += 1;
        // The bar is written anew below it.
        let clear = if self.terminal { "\r\x1b[K" } else { "" };
        writeln!(io::stderr(), "{clear}line {number}: {problem}")
    }

    /// Shows how far it is: on a terminal at once, elsewhere now and then.
    fn show(&mut self, lines: u64) -> io::Result<()> {
        let mut err = io::stderr();
        if self.terminal {
            write!(err, "\r\x1b[K{}", self.line(lines))?;
        } else if self.told.elapsed() >= TELL_EVERY {
            self.told = Instant::now();
            writeln!(err, "{}", self.line(lines))?;
        }
        err.flush()
    }

    fn line(&self, lines: u64) -> String {
        let total = self.total.map(|total| format!(" of {total}"));
        let seconds = self.begun.elapsed().as_secs().max(1);
        let rate = (self.created + self.known) / seconds;
        format!("{lines}{} lines, {rate}/s", total.unwrap_or_default())
    }

    /// Says what came of it.
    fn end(self, lines: u64) -> Result<(), Box<dyn Error>> {
        let clear = if self.terminal { "\r\x1b[K" } else { "" };
        writeln!(io::stderr(), "{clear}{}", self.line(lines))?;
        println!(
            "{} messages imported, {} were there already, {} lines failed",
            self.created, self.known, self.failed
        );
        match self.failed {
            0 => Ok(()),
            failed => Err(format!("{failed} lines could not be imported").into()),
        }
    }
}
