//! A network between service and database that fails on purpose.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// Stands between service and database, and can lose a reply.
pub struct Relay {
    port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    /// Where the database is; nothing while it is said to be away.
    database: Mutex<Option<String>>,
    /// What has to go by on one connection, piece by piece, until the reply to the last is lost.
    lose: Mutex<Vec<Vec<u8>>>,
    lost: AtomicUsize,
    /// Whether the rows of that reply come through, and only its end is lost.
    only_end: AtomicBool,
}

impl Relay {
    /// Starts it before the database of an address.
    pub async fn start(url: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let relay = Self {
            port: listener.local_addr().unwrap().port(),
            shared: Arc::new(Shared {
                database: Mutex::new(Some(host(url).to_owned())),
                lose: Mutex::default(),
                lost: AtomicUsize::new(0),
                only_end: AtomicBool::new(false),
            }),
        };
        let shared = relay.shared.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let shared = shared.clone();
                tokio::spawn(async move {
                    // An end of either side is the end of both.
                    let _ = shared.carry(socket).await;
                });
            }
        });
        relay
    }

    /// The database's address with the relay in its place.
    pub fn url(&self, url: &str) -> String {
        url.replace(host(url), &format!("127.0.0.1:{}", self.port))
    }

    /// Says that the database is away, to whoever connects from now on.
    pub fn lose_database(&self) {
        *self.shared.database.lock().unwrap() = None;
    }

    /// Says where it is from now on.
    pub fn find_database(&self, url: &str) {
        *self.shared.database.lock().unwrap() = Some(host(url).to_owned());
    }

    /// Loses the reply to the last of these pieces, once.
    pub fn lose_reply(&self, pieces: &[&str]) {
        self.lose(pieces, false);
    }

    /// Loses the end of the reply to this piece, once: what says that the statement was committed.
    pub fn lose_end_of_reply(&self, piece: &str) {
        self.lose(&[piece], true);
    }

    fn lose(&self, pieces: &[&str], only_end: bool) {
        self.shared.only_end.store(only_end, Ordering::Relaxed);
        *self.shared.lose.lock().unwrap() = pieces
            .iter()
            .map(|piece| piece.as_bytes().to_vec())
            .collect();
    }

    /// How many replies were lost.
    pub fn lost(&self) -> usize {
        self.shared.lost.load(Ordering::Relaxed)
    }
}

fn host(url: &str) -> &str {
    let (_, host) = url.split_once('@').unwrap();
    host.split('/').next().unwrap()
}

impl Shared {
    async fn carry(&self, mut client: TcpStream) -> std::io::Result<()> {
        let Some(database) = self.database.lock().unwrap().clone() else {
            return Ok(());
        };
        let mut server = TcpStream::connect(database).await?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        let (mut asked, mut answered) = (vec![0; 65_536], vec![0; 65_536]);
        let mut met = 0;
        loop {
            tokio::select! {
                read = client.read(&mut asked) => {
                    let bytes = &asked[..read?];
                    if bytes.is_empty() {
                        return server.shutdown().await;
                    }
                    server.write_all(bytes).await?;
                    if self.meets_the_last(bytes, &mut met) {
                        return self.swallow(server, client).await;
                    }
                }
                read = server.read(&mut answered) => {
                    let bytes = &answered[..read?];
                    if bytes.is_empty() {
                        return client.shutdown().await;
                    }
                    client.write_all(bytes).await?;
                }
            }
        }
    }

    /// Tells whether the last piece has gone by on this connection, where `met` have before.
    fn meets_the_last(&self, bytes: &[u8], met: &mut usize) -> bool {
        let mut lose = self.lose.lock().unwrap();
        let Some(piece) = lose.get(*met) else {
            return false;
        };
        if bytes.windows(piece.len()).any(|window| window == piece) {
            *met += 1;
            if *met == lose.len() {
                lose.clear();
                return true;
            }
        }
        false
    }

    /// Reads the reply until the server is ready for the next statement, and hangs up.
    async fn swallow(&self, mut server: TcpStream, mut client: TcpStream) -> std::io::Result<()> {
        let (mut reply, end) = (Vec::new(), b"Z\0\0\0\x05I");
        while !reply.ends_with(end) {
            if server.read_buf(&mut reply).await? == 0 {
                return Ok(());
            }
        }
        if self.only_end.load(Ordering::Relaxed) {
            let rows = reply.len() - end.len();
            client.write_all(&reply[..rows]).await?;
            client.shutdown().await?;
        }
        self.lost.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}
