//! What is known of each connection of a port, and which of them have to go.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::limits::{HEAD, IDLE, LEAVE, SILENCE};

/// The connections of one port.
pub struct Connections {
    most: usize,
    began: Instant,
    open: Mutex<HashMap<u64, Arc<Connection>>>,
    next: AtomicU64,
    /// Asks every connection to leave.
    leave: CancellationToken,
    /// Ends every connection.
    end: CancellationToken,
}

/// One connection. Times are milliseconds since the port was opened; zero stands for never.
pub struct Connection {
    id: u64,
    port: Arc<Connections>,
    opened: u64,
    /// Whether the peer began as HTTP/2 does; its pings tell then whether it is there.
    http2: AtomicBool,
    /// Since when bytes have come that no request was made of yet.
    reading: AtomicU64,
    requests: AtomicUsize,
    /// When the last request ended.
    rested: AtomicU64,
    /// When it was asked to leave.
    asked: AtomicU64,
    served: AtomicBool,
    /// When the peer was last seen to be there: it sent something, or took what had waited for it.
    seen: AtomicU64,
    /// Whether something waits for it to take more.
    waits: AtomicBool,
    /// Whether it is sent a stream, which it has to take.
    streams: AtomicBool,
    /// Whether it is asked again and again for a sign of life.
    lasts: AtomicBool,
    /// Ends with what the connection became after its last answer.
    lasting: Mutex<Option<oneshot::Receiver<()>>>,
    /// Asks it to leave, after what is under way.
    pub leave: CancellationToken,
    /// Ends it at once.
    pub end: CancellationToken,
}

/// A request under way.
pub struct Request(Arc<Connection>);

/// What a connection became after its last answer: as long as this is there it is open, and under
/// way. The peer has to show a sign of life at times.
pub struct Lasting {
    _under_way: Request,
    ended: oneshot::Sender<()>,
}

impl Lasting {
    /// Waits until the connection has to end at once.
    pub async fn ended(&mut self) {
        self.ended.closed().await;
    }
}

impl Connections {
    /// Keeps `most` connections at once.
    pub fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            most,
            began: Instant::now(),
            open: Mutex::default(),
            next: AtomicU64::new(1),
            leave: CancellationToken::new(),
            end: CancellationToken::new(),
        })
    }

    /// Takes a connection in. At the limit, the one that is needed least has to go; `None` if all
    /// are at work.
    pub fn open(self: &Arc<Self>) -> Option<Arc<Connection>> {
        let mut open = self.lock();
        if open.len() >= self.most {
            let least = least_needed(&open)?;
            least.end.cancel();
            open.remove(&least.id);
        }
        let connection = Arc::new(Connection {
            id: self.next.fetch_add(1, Ordering::Relaxed),
            port: self.clone(),
            opened: self.now(),
            http2: AtomicBool::new(false),
            reading: AtomicU64::new(0),
            requests: AtomicUsize::new(0),
            rested: AtomicU64::new(0),
            asked: AtomicU64::new(0),
            served: AtomicBool::new(false),
            seen: AtomicU64::new(0),
            waits: AtomicBool::new(false),
            streams: AtomicBool::new(false),
            lasts: AtomicBool::new(false),
            lasting: Mutex::default(),
            leave: self.leave.child_token(),
            end: self.end.child_token(),
        });
        open.insert(connection.id, connection.clone());
        Some(connection)
    }

    /// Ends those whose time is over.
    pub fn sweep(&self) {
        let now = self.now();
        for connection in self.lock().values() {
            connection.judge(now);
        }
    }

    /// Makes room where the system has no more files.
    pub fn make_room(&self) {
        if let Some(least) = least_needed(&self.lock()) {
            least.end.cancel();
        }
    }

    /// Asks all to leave after what is under way.
    pub fn leave(&self) {
        self.leave.cancel();
        let now = self.now();
        for connection in self.lock().values() {
            connection.asked.store(now, Ordering::Relaxed);
        }
    }

    /// Ends all at once.
    pub fn end(&self) {
        self.end.cancel();
    }

    fn now(&self) -> u64 {
        // Never zero, which stands for never.
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX) + 1
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Arc<Connection>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One that never brought a request, else the one that rests longest.
fn least_needed(open: &HashMap<u64, Arc<Connection>>) -> Option<Arc<Connection>> {
    open.values()
        .filter(|connection| connection.requests.load(Ordering::Relaxed) == 0)
        .min_by_key(|connection| {
            let served = connection.served.load(Ordering::Relaxed);
            (served, connection.since())
        })
        .cloned()
}

impl Connection {
    /// Notes that bytes have come; `http2` if they begin as HTTP/2 does.
    pub fn read(&self, http2: bool) {
        self.seen.store(self.port.now(), Ordering::Relaxed);
        if http2 {
            self.http2.store(true, Ordering::Relaxed);
        }
        if self.requests.load(Ordering::Relaxed) == 0 && self.reading.load(Ordering::Relaxed) == 0 {
            self.reading.store(self.port.now(), Ordering::Relaxed);
        }
    }

    /// Notes that bytes begin or go on to wait for the peer, or that it has taken some that did.
    pub fn wrote(&self, waits: bool) {
        if !self.waits.swap(waits, Ordering::Relaxed) || !waits {
            self.seen.store(self.port.now(), Ordering::Relaxed);
        }
    }

    /// Notes that the answer is a stream, of which the peer has to take something at times.
    pub fn stream(&self) {
        self.streams.store(true, Ordering::Relaxed);
    }

    /// Lets it go on after its answer.
    pub fn last(self: &Arc<Self>) -> Lasting {
        let (ended, lasting) = oneshot::channel();
        let mut slot = self.lasting.lock().unwrap_or_else(PoisonError::into_inner);
        *slot = Some(lasting);
        self.lasts.store(true, Ordering::Relaxed);
        Lasting {
            _under_way: self.begin(),
            ended,
        }
    }

    /// Waits for the end of what it became.
    pub async fn lasted(&self) {
        let lasting = {
            let mut slot = self.lasting.lock().unwrap_or_else(PoisonError::into_inner);
            slot.take()
        };
        if let Some(lasting) = lasting {
            // It sends nothing: it is dropped.
            let _ = lasting.await;
        }
    }

    /// Notes that a request begins.
    pub fn begin(self: &Arc<Self>) -> Request {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.served.store(true, Ordering::Relaxed);
        self.reading.store(0, Ordering::Relaxed);
        Request(self.clone())
    }

    /// Notes that it is over.
    pub fn close(&self) {
        self.port.lock().remove(&self.id);
    }

    /// Since when it rests.
    fn since(&self) -> u64 {
        self.opened.max(self.rested.load(Ordering::Relaxed))
    }

    fn judge(&self, now: u64) {
        let longer = |since: u64, limit: Duration| {
            since != 0 && u128::from(now.saturating_sub(since)) > limit.as_millis()
        };
        if self.requests.load(Ordering::Relaxed) > 0 {
            let is_expected = self.lasts.load(Ordering::Relaxed)
                || (self.streams.load(Ordering::Relaxed) && self.waits.load(Ordering::Relaxed));
            if is_expected && longer(self.seen.load(Ordering::Relaxed), SILENCE) {
                self.end.cancel();
            }
            return;
        }
        let http2 = self.http2.load(Ordering::Relaxed);
        let served = self.served.load(Ordering::Relaxed);
        let reading = self.reading.load(Ordering::Relaxed);
        let asked = self.asked.load(Ordering::Relaxed);
        if longer(asked, LEAVE)
            || (!http2 && (longer(reading, HEAD) || (!served && longer(self.opened, HEAD))))
        {
            self.end.cancel();
        } else if asked == 0 && longer(self.since(), IDLE) {
            self.asked.store(now, Ordering::Relaxed);
            self.leave.cancel();
        }
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        let connection = &self.0;
        connection
            .rested
            .store(connection.port.now(), Ordering::Relaxed);
        connection.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_the_limit_who_never_asked_goes_first_and_then_who_rests_longest() {
        let port = Connections::new(3);
        let busy = port.open().unwrap();
        let _request = busy.begin();
        let resting = port.open().unwrap();
        drop(resting.begin());
        let silent = port.open().unwrap();

        let fourth = port.open().unwrap();
        assert!(silent.end.is_cancelled());
        drop(fourth.begin());
        resting.rested.store(1, Ordering::Relaxed);
        fourth.rested.store(2, Ordering::Relaxed);

        let fifth = port.open().unwrap();
        assert!(resting.end.is_cancelled() && !fourth.end.is_cancelled());
        let _fourth = fourth.begin();
        let _fifth = fifth.begin();
        assert!(port.open().is_none());
        busy.close();
        assert!(port.open().is_some());
    }

    #[test]
    fn time_is_up_for_half_a_head_and_for_rest_but_not_for_work() {
        let port = Connections::new(9);
        let head = u64::try_from(HEAD.as_millis()).unwrap() + 2;
        let idle = u64::try_from(IDLE.as_millis()).unwrap() + 2;
        let opened = || {
            let connection = port.open().unwrap();
            (connection.opened, connection)
        };

        let (at, silent) = opened();
        silent.judge(at + head - 5);
        assert!(!silent.end.is_cancelled());
        silent.judge(at + head);
        assert!(silent.end.is_cancelled());

        let (at, http2) = opened();
        http2.read(true);
        http2.judge(at + head);
        assert!(!http2.end.is_cancelled() && !http2.leave.is_cancelled());
        http2.judge(at + idle);
        assert!(http2.leave.is_cancelled() && !http2.end.is_cancelled());
        http2.judge(at + idle * 2);
        assert!(http2.end.is_cancelled());

        let (at, working) = opened();
        let request = working.begin();
        working.judge(at + idle);
        assert!(!working.leave.is_cancelled());
        drop(request);
        let at = working.rested.load(Ordering::Relaxed);
        working.judge(at + head);
        assert!(!working.end.is_cancelled());
        working.read(false);
        let at = working.reading.load(Ordering::Relaxed);
        working.judge(at + head);
        assert!(working.end.is_cancelled());
    }

    #[test]
    fn who_is_streamed_to_has_to_take_it_and_who_is_asked_has_to_answer() {
        let port = Connections::new(9);
        let silence = u64::try_from(SILENCE.as_millis()).unwrap() + 2;
        let seen = |connection: &Connection| connection.seen.load(Ordering::Relaxed);

        let streamed = port.open().unwrap();
        let _request = streamed.begin();
        streamed.stream();
        streamed.read(false);
        streamed.judge(seen(&streamed) + silence);
        assert!(!streamed.end.is_cancelled());
        streamed.wrote(true);
        let stuck = seen(&streamed);
        streamed.wrote(true);
        assert_eq!(seen(&streamed), stuck);
        streamed.judge(stuck + silence);
        assert!(streamed.end.is_cancelled());

        let asked = port.open().unwrap();
        let _lasting = asked.last();
        asked.read(false);
        asked.judge(seen(&asked) + silence - 5);
        assert!(!asked.end.is_cancelled());
        asked.judge(seen(&asked) + silence);
        assert!(asked.end.is_cancelled());
    }

    #[tokio::test]
    async fn what_lasts_is_waited_for_and_hears_of_the_end() {
        let port = Connections::new(9);
        let connection = port.open().unwrap();
        let mut lasting = connection.last();
        let waiting = tokio::time::timeout(Duration::from_millis(20), connection.lasted());
        // Who waits no longer has ended it.
        assert!(waiting.await.is_err());
        lasting.ended().await;
        drop(lasting);

        drop(connection.last());
        connection.lasted().await;
        assert_eq!(connection.requests.load(Ordering::Relaxed), 0);
    }
}
