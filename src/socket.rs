//! What is written to callers leaves in few pieces.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What is no longer than this waits for what follows it.
const SHORT: usize = 2048;

/// A socket that sends what is written to it in few pieces.
///
/// It says that it cannot write several buffers at once: the HTTP/2 library then puts the headers,
/// the body and the trailers of a short answer into one buffer, where it would send the trailers by
/// themselves otherwise. What it writes in two pieces instead, the beginning and the rest of a long
/// body, is put together again here. And a flush lets the other tasks have their turn first, so
/// that answers which are ready at the same time leave together.
#[derive(Debug)]
pub struct Gathering<I> {
    socket: I,
    waiting: Vec<u8>,
    others_had_their_turn: bool,
}

impl<I: AsyncWrite + Unpin> Gathering<I> {
    /// Gathers what is written to a socket.
    pub fn new(socket: I) -> Self {
        Self {
            socket,
            waiting: Vec::new(),
            others_had_their_turn: false,
        }
    }

    /// Sends what waits, and with it as much of `more` as goes; tells how much of that did.
    fn poll_send(&mut self, context: &mut Context<'_>, more: &[u8]) -> Poll<io::Result<usize>> {
        while !self.waiting.is_empty() {
            let pieces = [IoSlice::new(&self.waiting), IoSlice::new(more)];
            let socket = Pin::new(&mut self.socket);
            let sent = ready!(socket.poll_write_vectored(context, &pieces))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            if let Some(beyond) = sent.checked_sub(self.waiting.len()) {
                self.waiting.clear();
                if beyond > 0 {
                    return Poll::Ready(Ok(beyond));
                }
            } else {
                self.waiting.drain(..sent);
            }
        }
        if more.is_empty() {
            return Poll::Ready(Ok(0));
        }
        Pin::new(&mut self.socket).poll_write(context, more)
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Gathering<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(context, buffer)
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Gathering<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.waiting.len() + bytes.len() <= SHORT {
            self.waiting.extend_from_slice(bytes);
            return Poll::Ready(Ok(bytes.len()));
        }
        self.poll_send(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.waiting.is_empty() && !self.others_had_their_turn {
            self.others_had_their_turn = true;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.others_had_their_turn = false;
        ready!(self.poll_send(context, &[]))?;
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(context, &[]))?;
        Pin::new(&mut self.socket).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    async fn pair() -> (Gathering<TcpStream>, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let caller = TcpStream::connect(listener.local_addr().unwrap());
        let (caller, accepted) = tokio::join!(caller, listener.accept());
        (Gathering::new(accepted.unwrap().0), caller.unwrap())
    }

    #[tokio::test]
    async fn nothing_that_is_written_is_lost_or_changes_places() {
        let (mut socket, mut caller) = pair().await;
        let read = tokio::spawn(async move {
            let mut all = Vec::new();
            caller.read_to_end(&mut all).await.unwrap();
            all
        });
        let mut expected = Vec::new();
        // Far more than the kernel takes at once, in pieces on both sides of every limit.
        for round in 0..40_u8 {
            for length in [1, 9, SHORT - 10, 1, SHORT, SHORT + 1, 0, 100_000] {
                let piece = vec![round ^ u8::try_from(length % 251).unwrap(); length];
                socket.write_all(&piece).await.unwrap();
                expected.extend(piece);
            }
            if round % 3 == 0 {
                socket.flush().await.unwrap();
            }
        }
        socket.shutdown().await.unwrap();
        assert!(read.await.unwrap() == expected);
    }

    #[tokio::test]
    async fn what_is_short_is_sent_when_it_is_flushed() {
        let (mut socket, mut caller) = pair().await;
        socket.write_all(b"head").await.unwrap();
        socket.write_all(b"body").await.unwrap();
        let mut buffer = [0; 16];
        let refused = caller.try_read(&mut buffer).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
        socket.flush().await.unwrap();
        let read = caller.read(&mut buffer).await.unwrap();
        assert_eq!(&buffer[..read], b"headbody");
    }

    #[tokio::test]
    async fn answers_that_are_ready_at_the_same_time_leave_together() {
        let (mut socket, mut caller) = pair().await;
        socket.write_all(b"one").await.unwrap();
        let flushed =
            poll_fn(|context| Poll::Ready(Pin::new(&mut socket).poll_flush(context))).await;
        assert!(flushed.is_pending());
        socket.write_all(b"two").await.unwrap();
        socket.flush().await.unwrap();
        let mut buffer = [0; 16];
        let read = caller.read(&mut buffer).await.unwrap();
        assert_eq!(&buffer[..read], b"onetwo");
    }
}
