//! Servers that behave badly, on real sockets.

use std::collections::HashMap;
use std::error::Error;
use std::future::Future;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::StreamExt as _;
use http::HeaderName;
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::*;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nContent-Length: 5\r\n\r\nhello";

/// A server on loopback, which remembers what it was asked.
struct Server {
    port: u16,
    requests: Arc<Mutex<Vec<String>>>,
    connections: Arc<AtomicUsize>,
    _running: JoinSet<()>,
}

impl Server {
    /// Answers by a function of the request.
    async fn saying(answer: impl Fn(&str) -> String + Send + Sync + 'static) -> Self {
        let answer = Arc::new(answer);
        Self::behaving(move |mut stream, request| {
            let answer = Arc::clone(&answer);
            async move {
                let _ = stream.write_all(answer(&request).as_bytes()).await;
            }
        })
        .await
    }

    /// Does what it likes once it has read a request.
    async fn behaving<F, R>(behave: F) -> Self
    where
        F: Fn(TcpStream, String) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let connections = Arc::new(AtomicUsize::new(0));
        let (kept, counted) = (Arc::clone(&requests), Arc::clone(&connections));
        let mut running = JoinSet::new();
        running.spawn(async move {
            let mut served = JoinSet::new();
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                counted.fetch_add(1, Ordering::SeqCst);
                let request = head(&mut stream).await;
                kept.lock().unwrap().push(request.clone());
                served.spawn(behave(stream, request));
            }
        });
        Self {
            port,
            requests,
            connections,
            _running: running,
        }
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

async fn head(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut read = Vec::new();
    while !read.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => read.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8(read).unwrap()
}

/// A client for hosts with addresses, of which some are trusted.
fn client(hosts: &[(&str, &[&str])], trusted: &[String]) -> (GuardedClient, Arc<AtomicUsize>) {
    let hosts: HashMap<String, Vec<IpAddr>> = hosts
        .iter()
        .map(|(host, addresses)| {
            let addresses = addresses.iter().map(|address| address.parse().unwrap());
            ((*host).to_owned(), addresses.collect())
        })
        .collect();
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let options = Options {
        trusted_hosts: trusted.iter().map(|host| host.parse().unwrap()).collect(),
        connect_timeout: Duration::from_secs(2),
        patience: Duration::from_millis(400),
        timeout: Duration::from_millis(1500),
        resolve: Arc::new(move |host| {
            counted.fetch_add(1, Ordering::SeqCst);
            let addresses = hosts.get(&host).cloned();
            Box::pin(async { addresses.ok_or_else(|| io::ErrorKind::NotFound.into()) })
        }),
        ..Options::default()
    };
    (GuardedClient::new(options), asked)
}

/// A client that trusts `a.test` and `b.test` at the port of a server.
fn trusting(server: &Server) -> GuardedClient {
    let hosts: [(&str, &[&str]); 2] = [("a.test", &["127.0.0.1"]), ("b.test", &["127.0.0.1"])];
    let trusted = ["a.test", "b.test"].map(|host| format!("{host}:{}", server.port));
    client(&hosts, &trusted).0
}

fn allowed() -> [HostRule; 1] {
    [HostRule::below("test")]
}

async fn all(fetched: Fetched) -> Result<Vec<u8>, FetchError> {
    let mut bytes = Vec::new();
    let mut body = fetched.body;
    while let Some(piece) = body.next().await {
        bytes.extend_from_slice(&piece?);
    }
    Ok(bytes)
}

/// Fetches `/secret?secret` of `a.test` whole, at most 1,000 bytes of it.
async fn fetch(server: &Server) -> Result<Vec<u8>, FetchError> {
    let url = format!("http://a.test:{}/secret?secret", server.port);
    let fetched = trusting(server).fetch(&url, &allowed(), None, 1000).await;
    let result = match fetched {
        Ok(fetched) => all(fetched).await,
        Err(error) => Err(error),
    };
    if let Err(error) = &result {
        let mut shown = format!("{error:?}");
        let mut cause: Option<&dyn Error> = Some(error);
        while let Some(error) = cause {
            shown += &error.to_string();
            cause = error.source();
        }
        assert!(!shown.contains("secret"), "{shown}");
    }
    result
}

fn redirect(location: &str) -> String {
    format!("HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n")
}

fn outage(result: Result<Vec<u8>, FetchError>) -> Outage {
    match result {
        Err(FetchError::Unavailable { outage, .. }) => outage,
        other => panic!("{other:?}"),
    }
}

fn refusal(result: Result<Fetched, FetchError>) -> TargetError {
    match result.err() {
        Some(FetchError::Refused(error)) => error,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn media_is_fetched_by_a_request_that_tells_nothing_else() {
    let server = Server::saying(|_| OK.to_owned()).await;
    let url = format!("http://a.test:{}/a%20b?c=d#e", server.port);
    let fetched = trusting(&server)
        .fetch(&url, &allowed(), None, 5)
        .await
        .unwrap();
    assert_eq!(fetched.content_type.as_deref(), Some("image/png"));
    assert_eq!(fetched.length, Some(5));
    assert_eq!(fetched.host, "a.test");
    assert_eq!(all(fetched).await.unwrap(), b"hello");
    let wanted = format!(
        "GET /a%20b?c=d HTTP/1.1\r\nhost: a.test:{}\r\naccept: */*\r\naccept-encoding: identity\r\n\
         connection: close\r\nuser-agent: {USER_AGENT}\r\n\r\n",
        server.port,
    );
    assert_eq!(server.requests(), [wanted]);
}

#[tokio::test]
async fn three_redirects_are_followed_and_no_more() {
    let server = Server::saying(|request| match request.split(' ').nth(1).unwrap() {
        "/0" => OK.to_owned(),
        "/loop" => redirect("/loop"),
        path => redirect(&format!("{}?", path[1..].parse::<u32>().unwrap() - 1).replace('?', "")),
    })
    .await;
    let client = trusting(&server);
    let rules = allowed();
    let start = |path: &str| format!("http://a.test:{}/{path}", server.port);
    let fetched = client.fetch(&start("3"), &rules, None, 5).await.unwrap();
    assert_eq!(all(fetched).await.unwrap(), b"hello");
    assert_eq!(server.connections(), 4);
    for path in ["4", "loop"] {
        let refused = refusal(client.fetch(&start(path), &rules, None, 5).await);
        assert_eq!(refused, TargetError::Redirects { limit: 3 });
    }
    assert_eq!(server.connections(), 12);
}

#[tokio::test]
async fn a_redirect_leads_to_no_other_place_of_this_machine() {
    let canary = Server::saying(|_| OK.to_owned()).await;
    let port = canary.port;
    let host = || "inside.test".to_owned();
    for (location, error) in [
        (format!("http://127.0.0.1:{port}/"), TargetError::Scheme),
        (format!("https://127.0.0.1:{port}/"), TargetError::Port),
        ("https://127.0.0.1/".to_owned(), TargetError::Number),
        ("https://2130706433/".to_owned(), TargetError::Number),
        ("https://[::1]/".to_owned(), TargetError::Number),
        (format!("http://a.test:{port}/"), TargetError::Scheme),
        (format!("//u:p@a.test:{port}/"), TargetError::User),
        (
            "https://inside.test/".to_owned(),
            TargetError::NotPublic { host: host() },
        ),
        ("file:///etc/passwd".to_owned(), TargetError::Scheme),
    ] {
        let server = Server::saying(move |_| redirect(&location)).await;
        let hosts: [(&str, &[&str]); 2] = [
            ("a.test", &["127.0.0.1"]),
            ("inside.test", &["8.8.8.8", "127.0.0.1"]),
        ];
        let (client, _) = client(&hosts, &[format!("a.test:{}", server.port)]);
        let url = format!("http://a.test:{}/", server.port);
        let fetched = client.fetch(&url, &allowed(), None, 5).await;
        assert_eq!(refusal(fetched), error);
    }
    assert_eq!(canary.connections(), 0);
}

#[tokio::test]
async fn redirects_that_lead_nowhere_are_rejected() {
    let server = Server::saying(|_| "HTTP/1.1 302 Found\r\n\r\n".to_owned()).await;
    assert!(matches!(
        fetch(&server).await,
        Err(FetchError::Rejected(StatusCode::FOUND))
    ));
    let server = Server::saying(|_| redirect("http://[/")).await;
    let fetched = fetch(&server).await;
    assert!(
        matches!(fetched, Err(FetchError::Refused(TargetError::Url))),
        "{fetched:?}"
    );
}

#[tokio::test]
async fn credentials_go_to_the_first_host_only() {
    let server = Server::saying(|request| {
        let port = request
            .split_once(".test:")
            .unwrap()
            .1
            .split_once('\r')
            .unwrap()
            .0;
        match request.split(' ').nth(1).unwrap() {
            "/1" => redirect("/2"),
            "/2" => redirect(&format!("http://b.test:{port}/3")),
            "/3" => redirect(&format!("http://a.test:{port}/4")),
            _ => OK.to_owned(),
        }
    })
    .await;
    let url = format!("http://a.test:{}/1", server.port);
    let key = Credentials::Header(HeaderName::from_static("x-api-key"), "k1".to_owned());
    for credentials in [Credentials::Bearer("k1".to_owned()), key] {
        let fetching = trusting(&server);
        let fetched = fetching
            .fetch(&url, &allowed(), Some(&credentials), 5)
            .await;
        assert_eq!(fetched.unwrap().host, "a.test");
        let mut requests = server.requests();
        let told: Vec<_> = requests
            .split_off(requests.len() - 4)
            .iter()
            .map(|request| request.contains("k1"))
            .collect();
        assert_eq!(told, [true, true, false, false]);
    }
    assert!(
        !server
            .requests()
            .iter()
            .any(|request| request.contains("referer"))
    );
    assert!(
        !server
            .requests()
            .iter()
            .any(|request| request.contains("cookie"))
    );
    let wrong = Credentials::Bearer("a\r\nb".to_owned());
    let fetched = trusting(&server)
        .fetch(&url, &allowed(), Some(&wrong), 5)
        .await;
    assert!(matches!(fetched.err(), Some(FetchError::Credentials)));
    assert_eq!(server.connections(), 8);
}

#[tokio::test]
async fn media_is_cut_at_its_limit() {
    let said = Server::saying(|_| "HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n".to_owned());
    assert!(matches!(
        fetch(&said.await).await,
        Err(FetchError::TooLarge { limit: 1000 })
    ));

    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let chunked = |chunks: usize| {
        let chunk = format!("64\r\n{}\r\n", "x".repeat(100));
        Server::saying(move |_| format!("{head}{}0\r\n\r\n", chunk.repeat(chunks)))
    };
    assert_eq!(fetch(&chunked(10).await).await.unwrap().len(), 1000);
    let result = fetch(&chunked(11).await).await;
    assert!(
        matches!(result, Err(FetchError::TooLarge { .. })),
        "{result:?}"
    );

    let endless = Server::behaving(|mut stream, _| async move {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
        while stream.write_all(&[0; 4096]).await.is_ok() {}
    });
    let result = fetch(&endless.await).await;
    assert!(
        matches!(result, Err(FetchError::TooLarge { .. })),
        "{result:?}"
    );
}

#[tokio::test]
async fn media_of_another_length_than_said_is_cut_or_fails() {
    let longer = Server::saying(|_| format!("{OK} and more"));
    assert_eq!(fetch(&longer.await).await.unwrap(), b"hello");
    let shorter = Server::saying(|_| OK.replace("Length: 5", "Length: 6"));
    assert!(matches!(
        outage(fetch(&shorter.await).await),
        Outage::Broken(_)
    ));
    let two = Server::saying(|_| OK.replace("\r\n\r\n", "\r\nContent-Length: 4\r\n\r\n"));
    assert!(matches!(outage(fetch(&two.await).await), Outage::Broken(_)));
    let wrong = Server::saying(|_| OK.replace("Length: 5", "Length: -5"));
    assert!(matches!(
        outage(fetch(&wrong.await).await),
        Outage::Broken(_)
    ));
    let chunk = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n";
    let chunk = Server::saying(move |_| chunk.to_owned());
    assert!(matches!(
        outage(fetch(&chunk.await).await),
        Outage::Broken(_)
    ));
}

#[tokio::test]
async fn slow_media_ends_in_time() {
    let drop_by_drop = Server::behaving(|mut stream, _| async move {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
        while stream.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    let begun = Instant::now();
    assert!(matches!(
        outage(fetch(&drop_by_drop.await).await),
        Outage::TooSlow
    ));
    let stalled = Server::behaving(|mut stream, _| async move {
        let _ = stream.write_all(&OK.as_bytes()[..OK.len() - 1]).await;
        std::future::pending::<()>().await;
    });
    assert!(matches!(
        outage(fetch(&stalled.await).await),
        Outage::Stalled
    ));
    let silent = Server::behaving(|stream, _| async move {
        std::future::pending::<()>().await;
        drop(stream);
    });
    assert!(matches!(
        outage(fetch(&silent.await).await),
        Outage::Stalled
    ));
    assert!(begun.elapsed() < Duration::from_secs(4));
}

#[tokio::test]
async fn a_caller_that_takes_its_time_ends_too() {
    let server = Server::saying(|_| OK.to_owned()).await;
    let url = format!("http://a.test:{}/", server.port);
    let client = trusting(&server);
    let fetched = client.fetch(&url, &allowed(), None, 5).await.unwrap();
    tokio::time::sleep(client.options.timeout).await;
    assert!(matches!(outage(all(fetched).await), Outage::TooSlow));
}

#[tokio::test]
async fn endless_headers_end() {
    for (first, repeated) in [
        ("HTTP/1.1 200 OK\r\nX: ", "x"),
        ("HTTP/1.1 200 OK\r\n", "X: y\r\n"),
        ("HTTP/1.1 200 ", "OK"),
        ("", "HTTP/1.1 100 Continue\r\n\r\n"),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n",
            "X: y\r\n",
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;",
            "x",
        ),
    ] {
        let sent = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&sent);
        let repeated = repeated.repeat(500);
        let server = Server::behaving(move |mut stream, _| {
            let (counted, repeated) = (Arc::clone(&counted), repeated.clone());
            async move {
                let _ = stream.write_all(first.as_bytes()).await;
                while stream.write_all(repeated.as_bytes()).await.is_ok() {
                    counted.fetch_add(repeated.len(), Ordering::SeqCst);
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
        });
        let outage = outage(fetch(&server.await).await);
        assert!(
            matches!(outage, Outage::Broken(_) | Outage::Stalled),
            "{first}: {outage:?}"
        );
        assert!(sent.load(Ordering::SeqCst) < 2_000_000, "{first}");
    }
    let long = |bytes: usize| {
        let head = format!("\r\nX: {}\r\n\r\n", "y".repeat(bytes));
        Server::saying(move |_| OK.replace("\r\n\r\n", &head))
    };
    assert_eq!(fetch(&long(30_000).await).await.unwrap(), b"hello");
    assert!(matches!(
        outage(fetch(&long(40_000).await).await),
        Outage::Broken(_)
    ));
    let headers = |count: usize| {
        Server::saying(move |_| {
            OK.replace("\r\n\r\n", &format!("\r\n{}\r\n", "X: y\r\n".repeat(count)))
        })
    };
    assert_eq!(fetch(&headers(98).await).await.unwrap(), b"hello");
    assert!(matches!(
        outage(fetch(&headers(99).await).await),
        Outage::Broken(_)
    ));
}

#[tokio::test]
async fn what_is_not_http_is_no_answer() {
    for answer in [
        "",
        "hello",
        "SSH-2.0-OpenSSH_9.6\r\n",
        "HTTP/9.9 200 OK\r\n\r\n",
        "HTTP/1.1 99 X\r\n\r\n",
    ] {
        let server = Server::saying(|_| answer.to_owned()).await;
        assert!(
            matches!(outage(fetch(&server).await), Outage::Broken(_)),
            "{answer}"
        );
    }
}

#[tokio::test]
async fn one_inner_address_spoils_a_host() {
    let canary = Server::saying(|_| OK.to_owned()).await;
    let inner: [&[&str]; 5] = [
        &["8.8.8.8", "127.0.0.1"],
        &["127.0.0.1"],
        &["2606:4700::1111", "::ffff:127.0.0.1"],
        &["169.254.169.254"],
        &["10.0.0.1", "8.8.8.8"],
    ];
    for addresses in inner {
        // Another port of the same host is trusted, and that changes nothing.
        let trusted = [format!("a.test:{}", canary.port)];
        let (client, asked) = client(&[("a.test", addresses)], &trusted);
        let fetched = client.fetch("https://a.test/x", &allowed(), None, 5).await;
        let host = "a.test".to_owned();
        assert_eq!(refusal(fetched), TargetError::NotPublic { host });
        assert_eq!(asked.load(Ordering::SeqCst), 1);
    }
    assert_eq!(canary.connections(), 0);
}

#[tokio::test]
async fn no_address_of_a_stranger_reaches_this_machine() {
    let canary = Server::saying(|_| OK.to_owned()).await;
    let port = canary.port;
    let hosts: [(&str, &[&str]); 7] = [
        ("localhost", &["127.0.0.1", "::1"]),
        ("ip6-localhost", &["::1"]),
        ("inner.test", &["127.0.0.1"]),
        ("mixed.test", &["8.8.8.8", "127.0.0.1"]),
        ("mapped.test", &["::ffff:127.0.0.1"]),
        ("any.test", &["0.0.0.0", "::"]),
        ("translated.test", &["64:ff9b::7f00:1", "2002:7f00:1::"]),
    ];
    // A gateway of the deployment's own at the same port, which nobody named.
    let (client, _) = client(&hosts, &[format!("gateway.test:{port}")]);
    let mut urls: Vec<String> = Vec::new();
    for host in [
        "127.0.0.1",
        "127.0.0.1.",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "017700000001",
        "0177.0.0.1",
        "%31%32%37.0.0.1",
        "１２７.0.0.1",
        "①②⑦.0.0.1",
        "0",
        "0.0.0.0",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "localhost",
        "LOCALHOST.",
        "ip6-localhost",
        "inner.test",
        "mixed.test",
        "mapped.test",
        "any.test",
        "translated.test",
        "public.test@127.0.0.1",
        "public.test:443@127.0.0.1",
        "127.0.0.1\\@public.test",
        "127.0.0.1#.public.test",
        "127.0.0.1%23.public.test",
        "127.0.0.1?.public.test",
    ] {
        urls.push(format!("http://{host}:{port}/x"));
        urls.push(format!("https://{host}:{port}/x"));
    }
    for scheme in ["ftp", "gopher", "ws", "file", "dict", "//"] {
        urls.push(format!("{scheme}://127.0.0.1:{port}/x"));
    }
    assert!(urls.len() >= 60, "{}", urls.len());
    let all_hosts = [HostRule::below("test"), HostRule::exact("localhost")];
    for url in urls {
        let fetched = client.fetch(&url, &all_hosts, None, 5).await;
        assert!(
            matches!(&fetched, Err(FetchError::Refused(_))),
            "{url}: {:?}",
            fetched.err()
        );
    }
    assert_eq!(canary.connections(), 0);
}

#[tokio::test]
async fn a_host_is_looked_up_once_for_each_request() {
    let server = Server::saying(|_| OK.to_owned()).await;
    let port = server.port;
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let options = Options {
        trusted_hosts: vec![format!("a.test:{port}").parse().unwrap()],
        // The name has another address when it is asked again.
        resolve: Arc::new(move |_| {
            let is_first = counted.fetch_add(1, Ordering::SeqCst) == 0;
            let address = if is_first {
                [127, 0, 0, 1]
            } else {
                [169, 254, 169, 254]
            };
            Box::pin(async move { Ok(vec![IpAddr::from(address)]) })
        }),
        ..Options::default()
    };
    let client = GuardedClient::new(options);
    let url = format!("http://a.test:{port}/");
    let fetched = client.fetch(&url, &allowed(), None, 5).await.unwrap();
    assert_eq!(all(fetched).await.unwrap(), b"hello");
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    let again = refusal(client.fetch(&url, &allowed(), None, 5).await);
    assert_eq!(
        again,
        TargetError::NotPublic {
            host: "a.test".to_owned()
        }
    );
}

#[tokio::test]
async fn trust_is_of_one_host_and_one_port() {
    let server = Server::saying(|_| OK.to_owned()).await;
    let other = Server::saying(|_| OK.to_owned()).await;
    let hosts: [(&str, &[&str]); 2] = [("a.test", &["127.0.0.1"]), ("b.test", &["127.0.0.1"])];
    let trusted = [
        format!("a.test:{}", server.port),
        format!("127.0.0.1:{}", server.port),
    ];
    let (client, _) = client(&hosts, &trusted);
    let rules = [HostRule::below("test"), HostRule::exact("127.0.0.1")];
    for host in ["a.test", "127.0.0.1", "2130706433"] {
        let url = format!("http://{host}:{}/", server.port);
        assert!(client.fetch(&url, &rules, None, 5).await.is_ok(), "{host}");
    }
    for url in [
        format!("http://a.test:{}/", other.port),
        format!("http://b.test:{}/", server.port),
        format!("http://127.0.0.1:{}/", other.port),
        "http://a.test/".to_owned(),
    ] {
        assert_eq!(
            refusal(client.fetch(&url, &rules, None, 5).await),
            TargetError::Scheme,
            "{url}"
        );
    }
    let url = format!("http://a.test:{}/", server.port);
    let rules = [HostRule::exact("b.test")];
    let host = "a.test".to_owned();
    assert_eq!(
        refusal(client.fetch(&url, &rules, None, 5).await),
        TargetError::Host { host }
    );
    assert_eq!((server.connections(), other.connections()), (3, 0));
}

#[tokio::test]
async fn an_address_that_is_dead_is_passed_over() {
    let server = Server::saying(|_| OK.to_owned()).await;
    let trusted = [format!("a.test:{}", server.port), "dead.test:1".to_owned()];
    let hosts: [(&str, &[&str]); 3] = [
        ("a.test", &["127.0.0.9", "127.0.0.1"]),
        ("dead.test", &["127.0.0.1"]),
        ("none.test", &[]),
    ];
    let (client, _) = client(&hosts, &trusted);
    let url = format!("http://a.test:{}/", server.port);
    assert!(client.fetch(&url, &allowed(), None, 5).await.is_ok());
    for url in ["http://dead.test:1/", "https://none.test/"] {
        let error = client.fetch(url, &allowed(), None, 5).await.err().unwrap();
        assert!(error.may_pass());
        let error = Err::<Vec<u8>, _>(error);
        assert!(matches!(outage(error), Outage::Connect(_)), "{url}");
    }
    let error = client
        .fetch("https://unknown.test/", &allowed(), None, 5)
        .await
        .err()
        .unwrap();
    assert!(matches!(outage(Err(error)), Outage::Resolve(_)));
}

#[tokio::test]
async fn what_a_status_means_is_told() {
    let answer = |status: u16, more: &'static str| {
        Server::saying(move |_| format!("HTTP/1.1 {status} X\r\n{more}Content-Length: 0\r\n\r\n"))
    };
    for status in [404, 410] {
        assert!(matches!(
            fetch(&answer(status, "").await).await,
            Err(FetchError::Gone)
        ));
    }
    for status in [401, 403] {
        let result = fetch(&answer(status, "").await).await;
        assert!(
            matches!(result, Err(FetchError::Unauthorized(_))),
            "{status}"
        );
    }
    for status in [204, 206, 300, 304, 400, 402, 405, 416, 451] {
        let result = fetch(&answer(status, "").await).await;
        assert!(matches!(result, Err(FetchError::Rejected(_))), "{status}");
    }
    for status in [202, 408, 429, 500, 502, 503, 504, 599] {
        let result = fetch(&answer(status, "").await).await;
        assert!(matches!(outage(result), Outage::Status(_)), "{status}");
    }
    for (more, wait) in [
        ("Retry-After: 7\r\n", Some(7)),
        ("Retry-After: 99999999999\r\n", Some(3600)),
        ("Retry-After: -1\r\n", None),
        ("Retry-After: Wed, 21 Oct 2015 07:28:00 GMT\r\n", None),
    ] {
        match fetch(&answer(429, more).await).await {
            Err(FetchError::Unavailable { retry_after, .. }) => {
                assert_eq!(retry_after, wait.map(Duration::from_secs));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn what_is_compressed_is_not_media() {
    let with = |line: &'static str| {
        Server::saying(move |_| OK.replace("\r\n\r\n", &format!("\r\n{line}\r\n\r\n")))
    };
    for line in [
        "Content-Encoding: gzip",
        "Content-Encoding: identity\r\nContent-Encoding: br",
    ] {
        let result = fetch(&with(line).await).await;
        assert!(matches!(result, Err(FetchError::Compressed)), "{line}");
    }
    assert!(
        fetch(&with("Content-Encoding: Identity").await)
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn a_server_proves_its_name() {
    let key = rcgen::generate_simple_self_signed(["a.test".to_owned()]).unwrap();
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(
            vec![key.cert.der().clone()],
            PrivateKeyDer::try_from(key.signing_key.serialize_der()).unwrap(),
        )
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut running = JoinSet::new();
    running.spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            if let Ok(stream) = acceptor.accept(stream).await {
                answer_over(stream).await;
            }
        }
    });
    let hosts: [(&str, &[&str]); 2] = [("a.test", &["127.0.0.1"]), ("b.test", &["127.0.0.1"])];
    let trusted = ["a.test", "b.test"].map(|host| format!("{host}:{port}"));
    let (mut client, _) = client(&hosts, &trusted);
    let fetch = async |client: &GuardedClient, host: &str| {
        let url = format!("https://{host}:{port}/");
        client.fetch(&url, &allowed(), None, 5).await
    };
    let unknown = fetch(&client, "a.test").await.err().unwrap();
    assert!(matches!(outage(Err(unknown)), Outage::Connect(_)));

    let mut roots = RootCertStore::empty();
    roots.add(key.cert.der().clone()).unwrap();
    client.tls = connector(roots);
    let fetched = fetch(&client, "a.test").await.unwrap();
    assert_eq!(all(fetched).await.unwrap(), b"hello");
    let other = fetch(&client, "b.test").await.err().unwrap();
    assert!(matches!(outage(Err(other)), Outage::Connect(_)));
}

async fn answer_over(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    let request = head(&mut stream).await;
    assert!(request.starts_with("GET / HTTP/1.1\r\n"));
    stream.write_all(OK.as_bytes()).await.unwrap();
    let _ = stream.shutdown().await;
}

#[tokio::test]
async fn a_fetch_that_is_dropped_closes_its_connection() {
    let (told, mut closed) = tokio::sync::mpsc::channel(1);
    let server = Server::behaving(move |mut stream, _| {
        let told = told.clone();
        async move {
            let _ = stream.write_all(&OK.as_bytes()[..OK.len() - 1]).await;
            let _ = stream.read_u8().await;
            let _ = told.send(()).await;
        }
    })
    .await;
    let url = format!("http://a.test:{}/", server.port);
    let fetched = trusting(&server)
        .fetch(&url, &allowed(), None, 5)
        .await
        .unwrap();
    drop(fetched);
    let closed = tokio::time::timeout(Duration::from_secs(2), closed.recv()).await;
    assert_eq!(closed, Ok(Some(())));
}
