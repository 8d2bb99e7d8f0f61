//! Where files are: a folder, or a bucket of an S3-compatible service. Nothing else knows which.
//!
//! A file is found by its tenant's id and its own, never by a name that somebody gave it.

use std::fs::DirBuilder;
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256};
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use object_store::aws::AmazonS3Builder;
use object_store::local::LocalFileSystem;
use object_store::path::Path as Key;
use object_store::{
    Error as StoreError, GetOptions, GetResult, MultipartUpload, ObjectStore, ObjectStoreExt as _,
    PutPayload, RetryConfig,
};
use tokio::sync::mpsc::{self, Receiver};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::Instrument as _;

use crate::error::{Chain, Error};
use crate::ids::{AttachmentId, TenantId};

/// How much of a file is written to S3 at once, in bytes: the least that it takes of a file in parts.
const PART: usize = 5 * 1024 * 1024;
/// How much is written to a folder at once, in bytes.
const FOLDER_PART: usize = 256 * 1024;
/// In pieces of how many bytes that waits in memory: a whole number of them is a part.
const BLOCK: usize = 64 * 1024;
/// How much of a file is handed out at once, in bytes.
const PIECE: usize = 256 * 1024;
/// How many files may be on their way in at once. Each has up to two parts in memory.
const UPLOADS: usize = 32;
/// How many files may be on their way out at once. Each has a few pieces in memory.
const DOWNLOADS: usize = 256;
/// How long a reader may take for one piece.
const STALLED: Duration = Duration::from_secs(60);
/// For how long a request to S3 is repeated.
const RETRIES: RetryConfig = RetryConfig {
    backoff: object_store::BackoffConfig {
        init_backoff: Duration::from_millis(100),
        max_backoff: Duration::from_secs(2),
        base: 2.,
    },
    max_retries: 4,
    retry_timeout: Duration::from_secs(15),
};

/// Why files cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum FileStoreError {
    /// The address is none.
    #[error("COMM_ATTACHMENTS_URL is `{0}`, and not `file:///folder` or `s3://bucket/prefix`")]
    Url(String),
    /// The folder cannot be used.
    #[error("the folder `{path}` cannot be made, name another one in COMM_ATTACHMENTS_URL")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The settings of the store do not go together.
    #[error("the store of files cannot be used")]
    Store(#[from] StoreError),
}

/// The files of all tenants.
#[derive(Clone)]
pub struct FileStore(Arc<Inner>);

struct Inner {
    store: Arc<dyn ObjectStore>,
    root: Key,
    /// The folder, where it is one.
    folder: Option<PathBuf>,
    most: u64,
    uploads: Arc<Semaphore>,
    downloads: Arc<Semaphore>,
}

impl FileStore {
    /// Opens the store at an address, or else the folder of that name in the data folder. A file
    /// may have so many bytes at most.
    ///
    /// # Errors
    /// The address is none, or the folder cannot be made.
    pub fn open(url: Option<&str>, data_dir: &Path, most: u64) -> Result<Self, FileStoreError> {
        let wrong = || FileStoreError::Url(url.unwrap_or_default().to_owned());
        let (store, root, folder): (Arc<dyn ObjectStore>, _, _) = match url {
            Some(url) if url.starts_with("s3://") => {
                let place = url.trim_start_matches("s3://");
                let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
                if bucket.is_empty() {
                    return Err(wrong());
                }
                // The usual variables of AWS say the rest.
                let builder = AmazonS3Builder::from_env().with_bucket_name(bucket);
                let root = Key::parse(prefix.trim_end_matches('/')).map_err(|_| wrong())?;
                (Arc::new(builder.with_retry(RETRIES).build()?), root, None)
            }
            url => {
                let path = match url.map(|url| url.strip_prefix("file://")) {
                    None => data_dir.join("attachments"),
                    Some(Some(path)) if path.starts_with('/') => PathBuf::from(path),
                    Some(_) => return Err(wrong()),
                };
                let made = DirBuilder::new().recursive(true).mode(0o700).create(&path);
                made.map_err(|source| FileStoreError::Folder {
                    path: path.clone(),
                    source,
                })?;
                let folder = LocalFileSystem::new_with_prefix(&path)?.with_fsync(true);
                (Arc::new(folder), Key::default(), Some(path))
            }
        };
        Ok(Self(Arc::new(Inner {
            store,
            root,
            folder,
            most,
            uploads: Arc::new(Semaphore::new(UPLOADS)),
            downloads: Arc::new(Semaphore::new(DOWNLOADS)),
        })))
    }

    /// The files of one tenant.
    pub fn of(&self, tenant: TenantId) -> TenantFiles {
        TenantFiles {
            store: self.clone(),
            prefix: self.0.root.clone().join(tenant.0.simple().to_string()),
        }
    }
}

/// The files of one tenant.
#[derive(Clone)]
pub struct TenantFiles {
    store: FileStore,
    prefix: Key,
}

impl TenantFiles {
    /// The most bytes that a file may have.
    pub fn most(&self) -> u64 {
        self.store.0.most
    }

    /// Takes a place among the uploads, for as long as it is held.
    ///
    /// # Errors
    /// There are too many.
    pub fn room(&self) -> Result<OwnedSemaphorePermit, Error> {
        let uploads = self.store.0.uploads.clone();
        uploads.try_acquire_owned().map_err(|_| Error::TooManyCalls)
    }

    /// How much of a file is written at once, in bytes.
    fn part(&self) -> usize {
        match self.store.0.folder {
            Some(_) => FOLDER_PART,
            None => PART,
        }
    }

    /// Begins to write a file, whose bytes come little by little.
    pub fn writer(&self, id: AttachmentId) -> FileWriter {
        FileWriter {
            files: self.clone(),
            id,
            parts: None,
            blocks: Vec::new(),
            size: 0,
            hash: Context::new(&SHA256),
        }
    }

    /// Writes a whole file.
    async fn write(&self, id: AttachmentId, content: PutPayload) -> Result<(), Error> {
        let written = self.objects().put(&self.key(id), content).await;
        written.map(drop).map_err(unavailable)
    }

    /// Begins a file that is written in parts, of which nothing is there before the last.
    async fn begin(&self, id: AttachmentId) -> Result<Parts, Error> {
        let begun = self.objects().put_multipart(&self.key(id)).await;
        begun.map(Parts).map_err(unavailable)
    }

    /// Copies a file that is there.
    pub async fn copy(&self, from: AttachmentId, to: AttachmentId) -> Result<(), Error> {
        let copied = self.objects().copy(&self.key(from), &self.key(to)).await;
        copied.map_err(unavailable)
    }

    /// Reads a range of a file that is there, piece by piece. Who reads too slowly is left.
    ///
    /// # Errors
    /// The file is not there, or too many are being read.
    pub async fn read(
        &self,
        id: AttachmentId,
        range: Range<u64>,
    ) -> Result<Receiver<Result<Vec<u8>, Error>>, Error> {
        let downloads = self.store.0.downloads.clone();
        let room = downloads
            .try_acquire_owned()
            .map_err(|_| Error::TooManyCalls)?;
        let (pieces, reader) = mpsc::channel(1);
        if range.is_empty() {
            return Ok(reader);
        }
        let expected = range.end - range.start;
        let options = GetOptions {
            range: Some(range.into()),
            ..GetOptions::default()
        };
        let found = self.objects().get_opts(&self.key(id), options).await;
        let found = found.map_err(|error| match error {
            StoreError::NotFound { .. } => Error::internal(error),
            error => unavailable(error),
        })?;
        let hand_out = async move {
            let _room = room;
            let end = hand_out(found, expected, &pieces).await;
            if let Err(error) = end {
                let _ = pieces.send_timeout(Err(error), STALLED).await;
            }
        };
        tokio::spawn(hand_out.in_current_span());
        Ok(reader)
    }

    /// Removes files, those too that are not there any more.
    pub async fn remove(&self, ids: &[AttachmentId]) -> Result<(), Error> {
        let keys: Vec<_> = ids.iter().map(|id| self.key(*id)).collect();
        if let Some(folder) = &self.store.0.folder {
            for key in &keys {
                // What a crash in the middle of an upload leaves, under the name that the library
                // gives it.
                let begun = folder.join(format!("{key}#1"));
                gone(tokio::fs::remove_file(begun).await)?;
            }
        }
        self.delete(keys).await
    }

    /// Removes every file.
    pub async fn remove_all(&self) -> Result<(), Error> {
        if let Some(folder) = &self.store.0.folder {
            return gone(tokio::fs::remove_dir_all(folder.join(self.prefix.as_ref())).await);
        }
        let all = self.objects().list(Some(&self.prefix));
        let keys: Vec<_> = all
            .map_ok(|object| object.location)
            .try_collect()
            .await
            .map_err(unavailable)?;
        self.delete(keys).await
    }

    async fn delete(&self, keys: Vec<Key>) -> Result<(), Error> {
        let keys = stream::iter(keys.into_iter().map(Ok)).boxed();
        let mut deleted = self.objects().delete_stream(keys);
        while let Some(one) = deleted.next().await {
            match one {
                Ok(_) | Err(StoreError::NotFound { .. }) => {}
                Err(error) => return Err(unavailable(error)),
            }
        }
        Ok(())
    }

    fn objects(&self) -> &dyn ObjectStore {
        self.store.0.store.as_ref()
    }

    fn key(&self, id: AttachmentId) -> Key {
        self.prefix.clone().join(id.0.simple().to_string())
    }
}

/// A file that is being written. Nothing of it is there before its end.
pub struct FileWriter {
    files: TenantFiles,
    id: AttachmentId,
    parts: Option<Parts>,
    /// What is not written yet: all but the last are whole.
    blocks: Vec<Vec<u8>>,
    size: u64,
    hash: Context,
}

impl FileWriter {
    /// Takes the next bytes.
    pub fn push(&mut self, mut chunk: &[u8]) {
        self.size += u64::try_from(chunk.len()).unwrap_or(u64::MAX);
        self.hash.update(chunk);
        while !chunk.is_empty() {
            let mut block = match self.blocks.pop_if(|block| block.len() < BLOCK) {
                Some(block) => block,
                None => Vec::with_capacity(BLOCK),
            };
            let (fits, rest) = chunk.split_at(chunk.len().min(BLOCK - block.len()));
            block.extend_from_slice(fits);
            self.blocks.push(block);
            chunk = rest;
        }
    }

    /// How many bytes it has so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The SHA-256 of its bytes so far.
    pub fn hash(&self) -> Vec<u8> {
        self.hash.clone().finish().as_ref().to_vec()
    }

    /// The first of what is not written yet: before the first part, how it begins.
    pub fn unwritten(&self) -> &[u8] {
        self.blocks.first().map_or(&[], Vec::as_slice)
    }

    /// Tells whether a part is to be written. The last one, which may be a whole one, is for `end`.
    pub fn has_part(&self) -> bool {
        self.blocks.len() > self.files.part() / BLOCK
    }

    /// Writes a part.
    ///
    /// # Errors
    /// The store cannot be reached.
    pub async fn write_part(&mut self) -> Result<(), Error> {
        let blocks = self.blocks.len().min(self.files.part() / BLOCK);
        let part = self.blocks.drain(..blocks).map(Bytes::from).collect();
        let parts = match &mut self.parts {
            Some(parts) => parts,
            none => none.insert(self.files.begin(self.id).await?),
        };
        parts.write(part).await
    }

    /// Writes what is left: from here on the file is there.
    ///
    /// # Errors
    /// The store cannot be reached.
    pub async fn end(&mut self) -> Result<(), Error> {
        let rest = self.blocks.drain(..).map(Bytes::from).collect();
        match &mut self.parts {
            Some(parts) => {
                parts.write(rest).await?;
                parts.end().await
            }
            None => self.files.write(self.id, rest).await,
        }
    }

    /// Gives the file up.
    pub async fn abort(&mut self) {
        if let Some(parts) = &mut self.parts {
            parts.abort().await;
        }
    }
}

/// The parts of a file that is being written.
struct Parts(Box<dyn MultipartUpload>);

impl Parts {
    /// Writes the next part; all but the last have the same size.
    async fn write(&mut self, part: PutPayload) -> Result<(), Error> {
        self.0.put_part(part).await.map_err(unavailable)
    }

    /// Ends the file: from here on it is there.
    async fn end(&mut self) -> Result<(), Error> {
        self.0.complete().await.map(drop).map_err(unavailable)
    }

    /// Gives the file up.
    async fn abort(&mut self) {
        if let Err(error) = self.0.abort().await {
            tracing::debug!(error = %Chain(&error), "an upload could not be given up");
        }
    }
}

/// Hands a file out in pieces of one size.
async fn hand_out(
    found: GetResult,
    expected: u64,
    pieces: &mpsc::Sender<Result<Vec<u8>, Error>>,
) -> Result<(), Error> {
    let mut left = expected;
    let mut piece = Vec::with_capacity(PIECE);
    let mut content = found.into_stream();
    loop {
        let chunk = content.next().await.transpose().map_err(unavailable)?;
        let ended = chunk.is_none();
        let mut chunk = chunk.unwrap_or_default();
        left = left.saturating_sub(u64::try_from(chunk.len()).unwrap_or(u64::MAX));
        while !chunk.is_empty() {
            let room = PIECE - piece.len();
            piece.extend_from_slice(&chunk.split_to(room.min(chunk.len())));
            if piece.len() == PIECE {
                let full = std::mem::replace(&mut piece, Vec::with_capacity(PIECE));
                if pieces.send_timeout(Ok(full), STALLED).await.is_err() {
                    return Ok(());
                }
            }
        }
        if ended {
            break;
        }
    }
    if left > 0 {
        return Err(Error::internal("a file is shorter than it was"));
    }
    if !piece.is_empty() {
        let _ = pieces.send_timeout(Ok(piece), STALLED).await;
    }
    Ok(())
}

fn unavailable(error: StoreError) -> Error {
    Error::FilesUnavailable(error.into())
}

/// What is gone already need not be removed.
fn gone(removed: io::Result<()>) -> Result<(), Error> {
    match removed {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(Error::FilesUnavailable(error.into()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_folder_or_a_bucket() {
        let folder = std::env::temp_dir().join(format!("files-{}", TenantId::new()));
        let open = |url: Option<&str>| FileStore::open(url, &folder, 1);
        assert!(open(None).is_ok());
        assert!(folder.join("attachments").is_dir());
        assert!(open(Some(&format!("file://{}", folder.display()))).is_ok());
        let bucket = open(Some("s3://bucket/some/prefix/")).unwrap();
        let tenant = TenantId::new();
        assert_eq!(
            bucket.of(tenant).prefix.as_ref(),
            format!("some/prefix/{}", tenant.0.simple())
        );
        assert!(open(Some("s3://bucket")).is_ok());
        for wrong in [
            "",
            "s3://",
            "s3:///x",
            "file://x",
            "/folder",
            "https://x/y",
            "s3://b/a/../c",
        ] {
            assert!(
                matches!(open(Some(wrong)), Err(FileStoreError::Url(_))),
                "{wrong}"
            );
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
