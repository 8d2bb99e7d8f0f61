//! Callers over gRPC, each of which waits for its answer before it calls again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use communication_service::pb;
use hdrhistogram::Histogram;
use http::uri::PathAndQuery;
use prost::Message as _;
use prost::bytes::{Buf as _, BufMut as _, Bytes};
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status, Streaming};
use uuid::Uuid;

use crate::Failure;
use crate::process::{Cpu, Meter};

/// How many HTTP/2 connections the callers share.
const CHANNELS: usize = 4;
const WARM_UP: Duration = Duration::from_secs(1);

const WARMING: u8 = 0;
const COUNTING: u8 = 1;
const STOPPED: u8 = 2;

/// A stream of events, undecoded.
pub type Stream = Streaming<Bytes>;

/// Callers of one server, with one credential.
#[derive(Clone)]
pub struct Callers {
    channels: Vec<Channel>,
    authorization: MetadataValue<Ascii>,
}

/// One call, again and again.
#[derive(Clone)]
pub struct Task {
    /// Which: `/communication.v1.InboxService/GetMessage`.
    pub path: &'static str,
    /// What is asked.
    pub requests: Arc<Vec<Bytes>>,
    /// Which of these a caller asks when.
    pub pick: Pick,
    /// What the server shall answer; anything else ends the run.
    pub answer: Code,
}

/// How a caller goes through the requests.
#[derive(Debug, Clone, Copy)]
pub enum Pick {
    /// By chance.
    Random,
    /// In turn, each caller those of its own share.
    Apart,
}

/// What came of a run.
pub struct Outcome {
    /// How long each call took, in microseconds.
    pub latency: Histogram<u64>,
    /// How long all that took.
    pub took: Duration,
    /// What was used for it.
    pub cpu: Cpu,
}

impl Callers {
    /// Connects to a server.
    pub async fn connect(address: &str, token: &str) -> Result<Self, Failure> {
        let mut channels = Vec::new();
        for _ in 0..CHANNELS {
            let endpoint = Endpoint::from_shared(address.to_owned())?.tcp_nodelay(true);
            channels.push(endpoint.connect().await?);
        }
        Ok(Self {
            channels,
            authorization: format!("Bearer {token}").parse()?,
        })
    }

    /// Connects once, by a connection that takes so many bytes before they are read.
    pub async fn connect_once(address: &str, token: &str, window: u32) -> Result<Self, Failure> {
        let endpoint = Endpoint::from_shared(address.to_owned())?
            .tcp_nodelay(true)
            .initial_connection_window_size(window)
            .initial_stream_window_size(window);
        Ok(Self {
            channels: vec![endpoint.connect().await?],
            authorization: format!("Bearer {token}").parse()?,
        })
    }

    /// Opens a stream of events.
    pub async fn subscribe(&self, request: &pb::SubscribeRequest) -> Result<Stream, Status> {
        let mut client = Grpc::new(self.channels[0].clone());
        let mut request = Request::new(Bytes::from(request.encode_to_vec()));
        let metadata = request.metadata_mut();
        metadata.insert("authorization", self.authorization.clone());
        let ready = client.ready().await;
        ready.map_err(|error| Status::unavailable(error.to_string()))?;
        let path = PathAndQuery::from_static("/communication.v1.EventService/Subscribe");
        let answer = client.server_streaming(request, path, Undecoded).await?;
        Ok(answer.into_inner())
    }

    /// Opens a stream of events, again and again while the server has too much to do, as it asks.
    pub async fn subscribe_patiently(
        &self,
        request: &pb::SubscribeRequest,
    ) -> Result<Stream, Status> {
        loop {
            match self.subscribe(request).await {
                Err(status) if status.code() == Code::ResourceExhausted => {
                    let longer = Uuid::new_v4().as_u64_pair().0 % 500;
                    tokio::time::sleep(Duration::from_millis(1000 + longer)).await;
                }
                opened => return opened,
            }
        }
    }

    /// Makes one call.
    pub async fn call(&self, path: &'static str, request: Bytes) -> Result<Bytes, Status> {
        let mut client = Grpc::new(self.channels[0].clone());
        unary(&mut client, path, request, &self.authorization).await
    }

    /// Lets so many callers do a task for a while that counts, after a second that does not.
    pub async fn run(
        &self,
        callers: usize,
        task: &Task,
        span: Duration,
        meter: Meter,
    ) -> Result<Outcome, Failure> {
        let phase = Arc::new(AtomicU8::new(WARMING));
        let spawn = |number: usize| {
            let client = Grpc::new(self.channels[number % CHANNELS].clone());
            let authorization = self.authorization.clone();
            tokio::spawn(one_caller(
                (number, callers),
                client,
                authorization,
                task.clone(),
                phase.clone(),
            ))
        };
        let running: Vec<_> = (0..callers).map(spawn).collect();
        tokio::time::sleep(WARM_UP).await;
        let (begun, before) = (Instant::now(), meter.read()?);
        phase.store(COUNTING, Ordering::Relaxed);
        tokio::time::sleep(span).await;
        phase.store(STOPPED, Ordering::Relaxed);
        let (took, cpu) = (begun.elapsed(), meter.since(before)?);
        let mut latency = Histogram::new(3)?;
        for caller in running {
            latency.add(&caller.await??)?;
        }
        Ok(Outcome { latency, took, cpu })
    }
}

async fn one_caller(
    (number, callers): (usize, usize),
    mut client: Grpc<Channel>,
    authorization: MetadataValue<Ascii>,
    task: Task,
    phase: Arc<AtomicU8>,
) -> Result<Histogram<u64>, Failure> {
    let mut latency = Histogram::new(3)?;
    let share = task.requests.len() / callers;
    let mut turn = 0;
    while phase.load(Ordering::Relaxed) != STOPPED {
        let next = match task.pick {
            Pick::Random => Uuid::new_v4().as_u64_pair().0 as usize % task.requests.len(),
            Pick::Apart => number * share + turn % share,
        };
        turn += 1;
        let request = task.requests[next].clone();
        let begun = Instant::now();
        let answer = unary(&mut client, task.path, request, &authorization).await;
        if answer.as_ref().map_or_else(Status::code, |_| Code::Ok) != task.answer {
            return Err(format!("{} answered {answer:?}", task.path).into());
        }
        if phase.load(Ordering::Relaxed) == COUNTING {
            latency.record(u64::try_from(begun.elapsed().as_micros())?)?;
        }
    }
    Ok(latency)
}

async fn unary(
    client: &mut Grpc<Channel>,
    path: &'static str,
    request: Bytes,
    authorization: &MetadataValue<Ascii>,
) -> Result<Bytes, Status> {
    let mut request = Request::new(request);
    let metadata = request.metadata_mut();
    metadata.insert("authorization", authorization.clone());
    let ready = client.ready().await;
    ready.map_err(|error| Status::unavailable(error.to_string()))?;
    let path = PathAndQuery::from_static(path);
    Ok(client.unary(request, path, Undecoded).await?.into_inner())
}

/// Leaves messages as bytes: pgbench does not read its rows either.
#[derive(Debug, Clone, Copy)]
struct Undecoded;

impl Codec for Undecoded {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Undecoded {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for Undecoded {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}
