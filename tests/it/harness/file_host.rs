//! Plays a provider that serves files, and behaves badly on purpose.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// What is answered once.
#[derive(Debug, Clone)]
pub enum Told {
    /// A file, of a type.
    File(&'static str, Vec<u8>),
    /// A status, with words.
    Answer(u16, &'static str),
    /// A status, with another header.
    Status(u16, &'static str),
    /// To look elsewhere.
    Redirect(String),
    /// The beginning of a file, and no more.
    Broken(Vec<u8>),
    /// A file of a type, of so many bytes, whose length is not said beforehand.
    Endless(&'static str, usize),
    /// Nothing, for as long as anybody waits.
    Nothing,
}

/// A request as it came: its path, its header fields in small letters, and what it says.
#[derive(Debug, Clone)]
pub struct Asked {
    /// The path with its query.
    pub path: String,
    /// The header.
    pub header: HashMap<String, String>,
    /// The body.
    pub content: String,
}

/// A host of files.
#[derive(Clone)]
pub struct FileHost {
    /// Where it is.
    pub address: SocketAddr,
    answers: Arc<Mutex<HashMap<String, VecDeque<Told>>>>,
    asked: Arc<Mutex<Vec<Asked>>>,
}

/// A path without its query.
fn bare(path: &str) -> &str {
    path.split('?').next().unwrap()
}

impl FileHost {
    /// Opens a host on a port of its own.
    pub async fn open() -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = Self {
            address: socket.local_addr().unwrap(),
            answers: Arc::default(),
            asked: Arc::default(),
        };
        let answering = host.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = socket.accept().await {
                let host = answering.clone();
                tokio::spawn(async move { host.answer(stream).await });
            }
        });
        host
    }

    /// Its address, with a path.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Answers requests for a path in this way, one after the other; the last answer stays.
    pub fn tells(&self, path: &str, answers: impl IntoIterator<Item = Told>) {
        let answers = answers.into_iter().collect();
        self.answers
            .lock()
            .unwrap()
            .insert(path.to_owned(), answers);
    }

    /// The requests for a path so far, with that query or, where it has none, with any.
    pub fn asked(&self, path: &str) -> Vec<Asked> {
        let asked = self.asked.lock().unwrap();
        let of_path = asked
            .iter()
            .filter(|asked| asked.path == path || bare(&asked.path) == path);
        of_path.cloned().collect()
    }

    async fn answer(&self, mut stream: TcpStream) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let Ok(byte) = stream.read_u8().await else {
                return;
            };
            head.push(byte);
        }
        let head = String::from_utf8(head).unwrap();
        // Who is still sending hears no answer.
        let length = head.lines().find_map(|line| {
            let line = line.to_lowercase();
            line.strip_prefix("content-length: ")?.parse().ok()
        });
        let mut content = vec![0; length.unwrap_or(0)];
        if stream.read_exact(&mut content).await.is_err() {
            return;
        }
        let mut lines = head.lines();
        let path = lines.next().unwrap().split(' ').nth(1).unwrap().to_owned();
        let header = lines.filter_map(|line| line.split_once(": "));
        let header = header.map(|(name, value)| (name.to_lowercase(), value.to_owned()));
        self.asked.lock().unwrap().push(Asked {
            path: path.clone(),
            header: header.collect(),
            content: String::from_utf8_lossy(&content).into_owned(),
        });
        let told = {
            let mut answers = self.answers.lock().unwrap();
            let known = if answers.contains_key(&path) {
                path.as_str()
            } else {
                bare(&path)
            };
            match answers.get_mut(known) {
                Some(answers) if answers.len() > 1 => answers.pop_front().unwrap(),
                Some(answers) => answers[0].clone(),
                None => Told::Status(404, ""),
            }
        };
        let answer = match told {
            Told::File(content_type, content) => {
                let length = content.len();
                let head = format!(
                    "HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n\r\n"
                );
                [head.into_bytes(), content].concat()
            }
            Told::Answer(status, words) => {
                let length = words.len();
                format!("HTTP/1.1 {status} Told\r\nContent-Length: {length}\r\n\r\n{words}")
                    .into_bytes()
            }
            Told::Status(status, header) => {
                format!("HTTP/1.1 {status} Told\r\n{header}Content-Length: 0\r\n\r\n").into_bytes()
            }
            Told::Redirect(to) => {
                format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n")
                    .into_bytes()
            }
            Told::Broken(content) => {
                let head = "HTTP/1.1 200 OK\r\nContent-Length: 50000\r\n\r\n";
                [head.as_bytes().to_vec(), content].concat()
            }
            Told::Endless(content_type, bytes) => {
                let head = format!("HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\n\r\n");
                let block = vec![b'['; 64 * 1024];
                let mut sent = stream.write_all(head.as_bytes()).await;
                for _ in 0..bytes.div_ceil(block.len()) {
                    // Whoever has heard enough hangs up.
                    if sent.is_ok() {
                        sent = stream.write_all(&block).await;
                    }
                }
                Vec::new()
            }
            Told::Nothing => std::future::pending().await,
        };
        let _ = stream.write_all(&answer).await;
        let _ = stream.shutdown().await;
    }
}
